import { RowArrays } from '@platform/database';
import { newTimeId } from '@platform/paging';
import { currentContext, traceparent } from '@platform/request-context';

/** A fact to be told, as the feature that it happened in knows it. */
export interface NewEvent {
  /** For example `order.created`. */
  readonly type: string;
  readonly aggregateType: string;
  /** Key of the Kafka message: events with the same one keep their order. */
  readonly aggregateId: string;
  /** 1, 2, 3 … per aggregate. */
  readonly sequence: number;
  readonly data: object;
}

/** A row for the table `outbox`; `aggregatetype`, `aggregateid`, `type` and `payload` are Debezium's column names. */
export interface OutboxRow {
  readonly id: string;
  readonly aggregatetype: string;
  readonly aggregateid: string;
  readonly type: string;
  readonly payload: object;
  readonly sequence: number;
  readonly traceparent: string | null;
  readonly request_id: string | null;
}

const COLUMNS = {
  id: 'uuid',
  aggregatetype: 'text',
  aggregateid: 'text',
  type: 'text',
  payload: 'json',
  sequence: 'integer',
  traceparent: 'text',
  request_id: 'text',
} as const satisfies Record<keyof OutboxRow, string>;

const NAMES = Object.keys(COLUMNS) as (keyof OutboxRow)[];
const COLUMN_LIST = NAMES.join(', ');
const ROWS = new RowArrays(COLUMNS);

/**
 * SQL that inserts one row, for a statement that makes the change: the two are then written both or neither.
 * @param first number of the first of the parameters that {@link outboxValues} gives
 * @returns without an end, so that `FROM` and `WHERE` can follow
 */
export function outboxInsert(first: number): string {
  const parameters = NAMES.map((name, index) => `$${first + index}::${COLUMNS[name]}`);
  return `INSERT INTO outbox (${COLUMN_LIST}) SELECT ${parameters.join(', ')}`;
}

export function outboxValues(row: OutboxRow): unknown[] {
  return NAMES.map((name) => row[name]);
}

/**
 * SQL that inserts a row for each of a query, for the service's own statements: they may be those of several tenants.
 * @param columns SQL for each column
 * @returns without an end, so that `FROM` can follow
 */
export function outboxInsertSelect(columns: Readonly<Record<keyof OutboxRow, string>>): string {
  return `INSERT INTO outbox (${COLUMN_LIST}) SELECT ${NAMES.map((name) => columns[name]).join(', ')}`;
}

/**
 * SQL that inserts many rows at once, for the service's own statements: they may be those of several tenants.
 * @param first number of the first of the parameters that {@link outboxArrays} gives
 * @returns without an end, so that `WHERE` can follow
 */
export function outboxInsertAll(first: number): string {
  return `INSERT INTO outbox (${COLUMN_LIST}) SELECT * FROM (${ROWS.select(first)}) AS row`;
}

export function outboxArrays(rows: readonly OutboxRow[]): Buffer[] {
  return ROWS.parameters(rows.map((row) => ({ ...row, payload: JSON.stringify(row.payload) })));
}

/** The row that tells `event` and continues the trace of the work under way. */
export function outboxRow(event: NewEvent): OutboxRow {
  const context = currentContext();
  return {
    id: newTimeId(),
    aggregatetype: event.aggregateType,
    aggregateid: event.aggregateId,
    type: event.type,
    payload: event.data,
    sequence: event.sequence,
    traceparent: context ? traceparent(context.trace) : null,
    request_id: context?.requestId ?? null,
  };
}
