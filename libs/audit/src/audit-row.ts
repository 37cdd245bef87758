import { RowArrays } from '@platform/database';
import { momentOf, newTimeId } from '@platform/paging';
import { currentContext } from '@platform/request-context';

/** What happened, as the part of the service knows it that did or refused it. */
interface NewAuditEvent {
  /** Object and verb, as in `order.create`; by default what the route of the request is declared to do. */
  readonly action?: string;
  /** Whose trail it stands in; by default the caller's. */
  readonly tenantId?: string;
  /** What it was done to: an order id or a customer's pseudonym. Never personal data: the trail is for ever. */
  readonly object?: string;
  readonly outcome: 'succeeded' | 'refused';
  /** HTTP status of the answer; none where no request is answered. */
  readonly statusCode?: number;
  readonly errorCode?: string;
}

/** A row for the table `audit_events`. */
export interface AuditRow {
  /** UUIDv7. */
  readonly id: string;
  readonly occurredAt: Date;
  readonly tenantId: string | null;
  /** Null for what the service did by itself, and for calls that were not authenticated. */
  readonly clientId: string | null;
  readonly action: string;
  readonly object: string | null;
  readonly outcome: 'succeeded' | 'refused';
  readonly statusCode: number | null;
  readonly errorCode: string | null;
  readonly requestId: string | null;
  readonly address: string | null;
  /** SHA-256 thumbprint of the client's certificate. */
  readonly certificate: string | null;
}

/** The row that says `event` of the work under way: who, from where, with what certificate, in which request. */
export function auditRow({ action, tenantId, object, outcome, statusCode, errorCode }: NewAuditEvent): AuditRow {
  const context = currentContext();
  const id = newTimeId();
  return {
    id,
    occurredAt: momentOf(id), // lists filter by what the id says
    tenantId: tenantId ?? context?.principal?.tenantId ?? null,
    clientId: context?.principal?.clientId ?? null,
    action: action ?? context?.action ?? 'unknown',
    object: object ?? null,
    outcome,
    statusCode: statusCode ?? null,
    errorCode: errorCode ?? null,
    requestId: context?.requestId ?? null,
    address: context?.address ?? null,
    certificate: context?.certificate?.thumbprint ?? null,
  };
}

const COLUMNS = {
  id: 'uuid',
  occurred_at: 'timestamptz',
  tenant_id: 'text',
  client_id: 'text',
  action: 'text',
  object: 'text',
  outcome: 'text',
  status_code: 'smallint',
  error_code: 'text',
  request_id: 'text',
  address: 'text',
  certificate: 'text',
} as const;

const NAMES = Object.keys(COLUMNS) as (keyof typeof COLUMNS)[];
const COLUMN_LIST = NAMES.join(', ');
const ROWS = new RowArrays(COLUMNS);

/**
 * SQL that inserts one row, for a statement that makes the change: the two are then written both or neither.
 * @param first number of the first of the parameters that {@link auditValues} gives
 * @returns without an end, so that `FROM` and `WHERE` can follow
 */
export function auditInsert(first: number): string {
  const parameters = NAMES.map((name, index) => `$${first + index}::${COLUMNS[name]}`);
  return `INSERT INTO audit_events (${COLUMN_LIST}) SELECT ${parameters.join(', ')}`;
}

export function auditValues(row: AuditRow): unknown[] {
  const { id, occurredAt, tenantId, clientId, action, object, outcome, statusCode, errorCode } = row;
  return [
    ...[id, occurredAt, tenantId, clientId, action, object, outcome, statusCode, errorCode],
    ...[row.requestId, row.address, row.certificate],
  ];
}

/**
 * SQL that inserts a row for each of a query, for the service's own statements: they may be those of several tenants.
 * @param columns SQL for each column
 * @returns without an end, so that `FROM` can follow
 */
export function auditInsertSelect(columns: Readonly<Record<keyof typeof COLUMNS, string>>): string {
  return `INSERT INTO audit_events (${COLUMN_LIST}) SELECT ${NAMES.map((name) => columns[name]).join(', ')}`;
}

/**
 * SQL that inserts many rows at once, for the service's own statements: they may be those of several tenants.
 * @param first number of the first of the parameters that {@link auditArrays} gives
 * @returns without an end, so that `WHERE` can follow
 */
export function auditInsertAll(first: number): string {
  return `INSERT INTO audit_events (${COLUMN_LIST}) SELECT * FROM (${ROWS.select(first)}) AS row`;
}

export function auditArrays(rows: readonly AuditRow[]): Buffer[] {
  return ROWS.parameters(
    rows.map((row) => ({
      id: row.id,
      occurred_at: row.occurredAt,
      tenant_id: row.tenantId,
      client_id: row.clientId,
      action: row.action,
      object: row.object,
      outcome: row.outcome,
      status_code: row.statusCode,
      error_code: row.errorCode,
      request_id: row.requestId,
      address: row.address,
      certificate: row.certificate,
    })),
  );
}
