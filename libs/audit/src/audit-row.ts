import { TableRows } from '@platform/database';
import { momentOf, newTimeId } from '@platform/ids';
import { currentContext } from '@platform/request-context';

/** An event for the audit trail, as given by the code that made or refused the change. */
interface NewAuditEvent {
  /** Object and verb, as in `order.create`. Default: the action of the current request's route. */
  readonly action?: string;
  /** The tenant in whose trail the event appears. Default: the caller's. */
  readonly tenantId?: string;
  /** An order id or a customer's pseudonym. Never personal data: nothing in the trail can be erased. */
  readonly object?: string;
  readonly outcome: 'succeeded' | 'refused';
  /** HTTP status of the response; absent if the event is not about a request. */
  readonly statusCode?: number;
  readonly errorCode?: string;
}

/** A row for the table `audit_events`. */
export interface AuditRow {
  /** UUIDv7. */
  readonly id: string;
  readonly occurred_at: Date;
  readonly tenant_id: string | null;
  /** Null for the service's own actions and for unauthenticated calls. */
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
 * The row for `event`. Caller, address, certificate and request come from the current context.
 * @throws {Error} for a change without action or tenant, since it would appear in nobody's trail: outside of requests,
 *   as in a consumer or a job, `event` has to give both
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
    occurred_at: momentOf(id), // must match the id: lists filter by time through ids
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
