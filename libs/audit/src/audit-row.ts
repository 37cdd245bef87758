import { TableRows } from '@platform/database';
import { momentOf, newTimeId } from '@platform/ids';
import { currentContext } from '@platform/request-context';

/** What happened, as the part of the service knows it that did or refused it. */
interface NewAuditEvent {
  /** Object and verb, as in `order.create`; by default what the route of the request is declared to do. */
  readonly action?: string;
  /** Whose trail it stands in; by default the caller's. */
  readonly tenantId?: string;
  /** What it was done to: an order id or a customer's pseudonym. Never personal data: nothing in the trail can be erased. */
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
  readonly occurred_at: Date;
  readonly tenant_id: string | null;
  /** Null for what the service did by itself, and for calls that were not authenticated. */
  readonly client_id: string | null;
  readonly action: string;
  readonly object: string | null;
  readonly outcome: 'succeeded' | 'refused';
  readonly status_code: number | null;
  readonly error_code: string | null;
  readonly request_id: string | null;
  readonly address: string | null;
  /** SHA-256 thumbprint of the client's certificate. */
  readonly certificate: string | null;
}

/**
 * The row that says `event` of the work under way: who, from where, with what certificate, in which request.
 * @throws {Error} for a change that no request makes, as in a consumer or a job, unless action and tenant are given: it
 *   would stand in nobody's trail
 */
export function auditRow(event: NewAuditEvent): AuditRow {
  const { object, outcome, statusCode, errorCode } = event;
  const context = currentContext();
  const action = event.action ?? context?.action;
  const tenantId = event.tenantId ?? context?.principal?.tenantId;
  if (outcome === 'succeeded' && (action === undefined || tenantId === undefined)) {
    throw new Error('What was done outside of a request needs an action and a tenant in the audit trail');
  }
  const id = newTimeId();
  return {
    id,
    occurred_at: momentOf(id), // lists filter by what the id says
    tenant_id: tenantId ?? null,
    client_id: context?.principal?.clientId ?? null,
    action: action ?? 'unknown',
    object: object ?? null,
    outcome,
    status_code: statusCode ?? null,
    error_code: errorCode ?? null,
    request_id: context?.requestId ?? null,
    address: context?.address ?? null,
    certificate: context?.certificate?.thumbprint ?? null,
  };
}

export const AUDIT_EVENTS = new TableRows('audit_events', {
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
});
