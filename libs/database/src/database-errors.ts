import { ServiceError } from '@platform/errors';

/**
 * SQLSTATEs outside the classes 08 (connection), 53 (resources) and 58 (system) that mean that the server is
 * unavailable (https://www.postgresql.org/docs/18/errcodes-appendix.html).
 */
const UNAVAILABLE = new Set([
  '25006', // read_only_sql_transaction: the primary has failed over
  '25P03', // idle_in_transaction_session_timeout: this process stalled, and the transaction is rolled back
  '55P03', // lock_not_available: lock_timeout
  '57014', // query_canceled: statement_timeout
  '57P01', // admin_shutdown
  '57P02', // crash_shutdown
  '57P03', // cannot_connect_now
  '57P05', // idle_session_timeout
]);

/** Errors of an established connection. Failures to connect have an SQLSTATE of class 08 (see `FailFastClient`). */
const SOCKET_FAILURES = new Set(['ECONNRESET', 'EPIPE', 'ETIMEDOUT', 'EHOSTUNREACH', 'ENETUNREACH']);

/**
 * Errors that node-postgres and TypeORM throw without a code. "Driver not Connected" and "Cannot use a pool": there is
 * no pool yet, or no longer. "… already released": the connection was lost between two statements of a transaction.
 */
const DRIVER_FAILURES = new RegExp(
  `^(${[
    'Connection terminated',
    'timeout exceeded when trying to connect',
    'Query read timeout',
    'Client has encountered a connection error',
    'Client was closed',
    'Driver not Connected',
    'Cannot use a pool after calling end',
    'Query runner already released',
    'Database connection provided by a query runner was already released',
  ].join('|')})`,
);

/** The SQLSTATE or the socket's error code. TypeORM copies both to the errors that it throws. */
function codeOf(error: unknown): string {
  const { code } = (error ?? {}) as { code?: unknown };
  return typeof code === 'string' ? code : '';
}

/** Whether the database could not be reached or did not answer, as opposed to having rejected the statement. */
export function isUnavailable(error: unknown): boolean {
  const code = codeOf(error);
  if (/^(08|53|58)/.test(code) || UNAVAILABLE.has(code) || SOCKET_FAILURES.has(code)) return true;
  return error instanceof Error && DRIVER_FAILURES.test(error.message);
}

/** Whether the server accepts no writes: after a failover it is no longer the primary. */
export function isReadOnly(error: unknown): boolean {
  return codeOf(error) === '25006';
}

/** Whether the role may not do what the statement does: insufficient_privilege. */
export function isForbidden(error: unknown): boolean {
  return codeOf(error) === '42501';
}

/** Whether a statement named a table that does not exist: undefined_table. */
export function isMissingTable(error: unknown): boolean {
  return codeOf(error) === '42P01';
}

const isOrWasCausedBy = (code: string, error: unknown) =>
  codeOf(error) === code || (error instanceof ServiceError && codeOf(error.cause) === code);

/** Whether a statement waited for a lock of another transaction for longer than `lock_timeout`. */
export const isLocked = (error: unknown) => isOrWasCausedBy('55P03', error);

/** Whether a statement took longer than `statement_timeout`: query_canceled. */
export const isTooSlow = (error: unknown) => isOrWasCausedBy('57014', error);

/** Whether a transaction failed only because of concurrent ones, so that running all of it again can succeed. */
export function isRetryable(error: unknown): boolean {
  const code = codeOf(error);
  return code === '40001' || code === '40P01';
}
