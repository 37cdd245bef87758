import { ApiProperty, ApiPropertyOptional } from '@nestjs/swagger';
import type { AuditRow } from '@platform/audit';
import { PageLinks } from '@platform/paging';
import { fromUUID } from 'typeid-js';

/** An event of the audit trail: an action that succeeded or was refused. */
export class AuditEventView {
  @ApiProperty({ example: 'aud_01jfw9v6k3f0qv8w2m4x5y6z7a' })
  readonly eventId: string;

  @ApiProperty({ format: 'date-time' })
  readonly occurredAt: string;

  @ApiPropertyOptional({ description: 'The client that acted; absent where the service acted on its own' })
  readonly clientId?: string;

  @ApiProperty({ example: 'order.create' })
  readonly action: string;

  @ApiPropertyOptional({ description: 'The order, if the action was about one' })
  readonly orderId?: string;

  @ApiPropertyOptional({ description: "What another action was about, for example an erased customer's pseudonym" })
  readonly object?: string;

  @ApiProperty({ enum: ['succeeded', 'refused'] satisfies AuditRow['outcome'][] })
  readonly outcome: AuditRow['outcome'];

  @ApiPropertyOptional({
    type: 'integer',
    description: 'HTTP status code of the answer; absent where the service acted on its own',
  })
  readonly statusCode?: number;

  @ApiPropertyOptional({ example: 'INSUFFICIENT_SCOPE', description: 'Error code of the refusal' })
  readonly code?: string;

  @ApiPropertyOptional({ description: 'The `X-Request-Id` of the request that caused the action' })
  readonly requestId?: string;

  @ApiPropertyOptional({ description: 'IP address of the caller' })
  readonly address?: string;

  @ApiPropertyOptional({ description: "SHA-256 thumbprint of the caller's certificate, base64url" })
  readonly certificate?: string;
}

/** A page of `GET /v1/audit-events`. */
export class AuditEventPage {
  @ApiProperty({ type: [AuditEventView] })
  readonly data: readonly AuditEventView[];

  @ApiProperty()
  readonly links: PageLinks;
}

export function toAuditEventView(row: AuditRow): AuditEventView {
  const isOrder = row.object?.startsWith('ord_');
  return {
    eventId: fromUUID(row.id, 'aud'),
    occurredAt: row.occurred_at.toISOString(),
    clientId: row.client_id ?? undefined,
    action: row.action,
    orderId: isOrder ? (row.object ?? undefined) : undefined,
    object: isOrder ? undefined : (row.object ?? undefined),
    outcome: row.outcome,
    statusCode: row.status_code ?? undefined,
    code: row.error_code ?? undefined,
    requestId: row.request_id ?? undefined,
    address: row.address ?? undefined,
    certificate: row.certificate ?? undefined,
  };
}
