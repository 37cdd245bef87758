import { QueryFailedError } from 'typeorm';
import { isRetryable, isUnavailable } from './database-errors';

const withCode = (code: unknown, message = 'failed') => Object.assign(new Error(message), { code });
const fromTypeOrm = (driverError: Error) => new QueryFailedError('SELECT 1', [], driverError);

/** What PostgreSQL says of a statement that it will refuse each time. */
const REFUSALS: [string, string][] = [
  ['23505', 'unique_violation'],
  ['23503', 'foreign_key_violation'],
  ['23514', 'check_violation'],
  ['22P02', 'invalid_text_representation'],
  ['42601', 'syntax_error'],
  ['42P01', 'undefined_table'],
  ['42501', 'insufficient_privilege'],
];

const RETRYABLE: [string, string][] = [
  ['40001', 'serialization_failure'],
  ['40P01', 'deadlock_detected'],
];

const NOT_AN_ERROR: [string, unknown][] = [
  ['undefined', undefined],
  ['null', null],
  ['a string', 'ECONNRESET'],
  ['an empty object', {}],
];

describe('isUnavailable', () => {
  const codes: [string, string][] = [
    ['08000', 'connection_exception'],
    ['08003', 'connection_does_not_exist'],
    ['08006', 'connection_failure'],
    ['08P01', 'protocol_violation'],
    ['25006', 'read_only_sql_transaction'],
    ['25P03', 'idle_in_transaction_session_timeout'],
    ['53300', 'too_many_connections'],
    ['55P03', 'lock_not_available'],
    ['57014', 'query_canceled'],
    ['57P01', 'admin_shutdown'],
    ['57P02', 'crash_shutdown'],
    ['57P03', 'cannot_connect_now'],
    ['57P05', 'idle_session_timeout'],
    ['58030', 'io_error'],
    ['ECONNRESET', 'the other side hung up'],
    ['EPIPE', 'the other side had hung up'],
    ['ETIMEDOUT', 'no answer'],
    ['EHOSTUNREACH', 'no way to the host'],
    ['ENETUNREACH', 'no way to the network'],
  ];

  it.each(codes)('is true for %s, %s', (code) => {
    expect(isUnavailable(withCode(code))).toBe(true);
    expect(isUnavailable(fromTypeOrm(withCode(code)))).toBe(true);
  });

  it.each([
    'Connection terminated',
    'Connection terminated unexpectedly',
    'Connection terminated due to connection timeout',
    'timeout exceeded when trying to connect',
    'Query read timeout',
    'Client has encountered a connection error and is not queryable',
    'Client was closed and is not queryable',
    'Driver not Connected',
    'Cannot use a pool after calling end on the pool',
    'Query runner already released. Cannot run queries anymore.',
    'Database connection provided by a query runner was already released, cannot continue to use its querying methods anymore.',
  ])('is true for what the driver says without a code: %s', (message) => {
    expect(isUnavailable(new Error(message))).toBe(true);
    expect(isUnavailable(fromTypeOrm(new Error(message)))).toBe(true);
  });

  it.each([...REFUSALS, ...RETRYABLE])('is false for %s, %s', (code) => {
    expect(isUnavailable(withCode(code))).toBe(false);
    expect(isUnavailable(fromTypeOrm(withCode(code)))).toBe(false);
  });

  it.each<[string, unknown]>([
    ...NOT_AN_ERROR,
    ['a fault of the code', new TypeError('x is not a function')],
    ['a code that is a number', withCode(8006)],
    ['words of the driver in the middle of others', new Error('the value "Connection terminated" is not allowed')],
    ['words of the driver that are no error', 'Connection terminated'],
  ])('is false for %s', (_, error) => {
    expect(isUnavailable(error)).toBe(false);
  });
});

describe('isRetryable', () => {
  it.each(RETRYABLE)('is true for %s, %s', (code) => {
    expect(isRetryable(withCode(code))).toBe(true);
    expect(isRetryable(fromTypeOrm(withCode(code)))).toBe(true);
  });

  it.each<[string, string]>([
    ...REFUSALS,
    ['40002', 'transaction_integrity_constraint_violation'],
    ['57014', 'query_canceled'],
    ['ECONNRESET', 'unknown whether it committed'],
  ])('is false for %s, %s', (code) => {
    expect(isRetryable(withCode(code))).toBe(false);
    expect(isRetryable(fromTypeOrm(withCode(code)))).toBe(false);
  });

  it.each<[string, unknown]>([
    ...NOT_AN_ERROR,
    ['an error that only says so', new Error('could not serialize access due to concurrent update (40001)')],
    ['a code that is a longer one', withCode('400010')],
  ])('is false for %s', (_, error) => {
    expect(isRetryable(error)).toBe(false);
  });
});
