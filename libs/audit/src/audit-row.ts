import { momentOf } from '@platform/paging';
import { currentContext } from '@platform/request-context';
import { toUUID, typeidUnboxed } from 'typeid-js';

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
  const id = toUUID(typeidUnboxed());
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

const COLUMNS = [
  ['id', 'uuid'],
  ['occurred_at', 'timestamptz'],
  ['tenant_id', 'text'],
  ['client_id', 'text'],
  ['action', 'text'],
  ['object', 'text'],
  ['outcome', 'text'],
  ['status_code', 'smallint'],
  ['error_code', 'text'],
  ['request_id', 'text'],
  ['address', 'text'],
  ['certificate', 'text'],
] as const;

const NAMES = COLUMNS.map(([name]) => name).join(', ');

/**
 * SQL that inserts one row, for a statement that makes the change: the two are then written both or neither.
 * @param first number of the first of the parameters that {@link auditValues} gives
 * @returns without an end, so that `FROM` and `WHERE` can follow
 */
export function auditInsert(first: number): string {
  const parameters = COLUMNS.map(([, type], index) => `$${first + index}::${type}`).join(', ');
  return `INSERT INTO audit_events (${NAMES}) SELECT ${parameters}`;
}

export function auditValues(row: AuditRow): unknown[] {
  const { id, occurredAt, tenantId, clientId, action, object, outcome, statusCode, errorCode } = row;
  return [
    ...[id, occurredAt, tenantId, clientId, action, object, outcome, statusCode, errorCode],
    ...[row.requestId, row.address, row.certificate],
  ];
}

/** SQL that inserts the rows of its one parameter, {@link auditJson}, but for those that are there already. */
export const AUDIT_INSERT_ALL = `
  INSERT INTO audit_events (${NAMES})
  SELECT ${NAMES} FROM jsonb_to_recordset($1::jsonb) AS row (${COLUMNS.map((column) => column.join(' ')).join(', ')})
  ON CONFLICT DO NOTHING`;

export function auditJson(rows: readonly AuditRow[]): string {
  const named = (values: unknown[]) => Object.fromEntries(COLUMNS.map(([name], index) => [name, values[index]]));
  return JSON.stringify(rows.map((row) => named(auditValues(row))));
}
