import { ServiceError } from '@platform/errors';

/**
 * SQLSTATEs, beside classes 08 (connection), 53 (resources) and 58 (the system), that say that the server cannot serve now
 * (https://www.postgresql.org/docs/18/errcodes-appendix.html).
 */
const UNAVAILABLE = new Set([
  '25006', // read_only_sql_transaction: the primary has failed over
  '25P03', // idle_in_transaction_session_timeout: we were held up, and the transaction is undone
  '55P03', // lock_not_available: lock_timeout
  '57014', // query_canceled: statement_timeout
  '57P01', // admin_shutdown
  '57P02', // crash_shutdown
  '57P03', // cannot_connect_now
  '57P05', // idle_session_timeout
]);

/** Of a connection that was made; whatever keeps it from being made is of class 08 (see `FailFastClient`). */
const SOCKET_FAILURES = new Set(['ECONNRESET', 'EPIPE', 'ETIMEDOUT', 'EHOSTUNREACH', 'ENETUNREACH']);

/**
 * node-postgres and TypeORM throw these without a code: "Driver not Connected" and "Cannot use a pool" while there is no
 * pool, at the start or at the end; what was released is a connection that was lost between two statements of a transaction.
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

/** The SQLSTATE or the socket's error code; TypeORM copies either to the error that it throws. */
function codeOf(error: unknown): string {
  const { code } = (error ?? {}) as { code?: unknown };
  return typeof code === 'string' ? code : '';
}

/** Whether the database could not be reached or could not answer, as opposed to having refused the statement. */
export function isUnavailable(error: unknown): boolean {
  const code = codeOf(error);
  if (/^(08|53|58)/.test(code) || UNAVAILABLE.has(code) || SOCKET_FAILURES.has(code)) return true;
  return error instanceof Error && DRIVER_FAILURES.test(error.message);
}

/** Whether the server takes no writes (any more): it was the primary, and another one is now. */
export function isReadOnly(error: unknown): boolean {
  return codeOf(error) === '25006';
}

/** Whether another transaction held on for too long (`lock_timeout`) to what a statement wanted to lock. */
export function isLocked(error: unknown): boolean {
  return codeOf(error) === '55P03' || (error instanceof ServiceError && codeOf(error.cause) === '55P03');
}

/** Whether a transaction failed only because of others beside it, so that running it whole again can succeed. */
export function isRetryable(error: unknown): boolean {
  const code = codeOf(error);
  return code === '40001' || code === '40P01';
}
