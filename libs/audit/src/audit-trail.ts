import { Injectable } from '@nestjs/common';
import { Database } from '@platform/database';
import { AUDIT_EVENTS, type AuditRow } from './audit-row';

export interface AuditFilter {
  readonly clientId?: string;
  readonly action?: string;
  readonly object?: string;
  /** Only this id and greater ones. */
  readonly fromId?: string;
  /** Only smaller ids. */
  readonly beforeId?: string;
}

const APPEND = `${AUDIT_EVENTS.insertAll()} ON CONFLICT DO NOTHING`;

/** Reads `audit_events`, and appends events that belong to no change; a change inserts its own in its transaction. */
@Injectable()
export class AuditTrail {
  constructor(private readonly database: Database) {}

  /** Appends events that belong to no change. Safe to repeat: rows that exist already are skipped. */
  async append(rows: readonly AuditRow[]): Promise<void> {
    if (rows.length === 0) return;
    await this.database.run((manager) => manager.query(APPEND, AUDIT_EVENTS.parameters(rows)));
  }

  /** Newest first. */
  list(tenantId: string, filter: AuditFilter, limit: number): Promise<AuditRow[]> {
    const { clientId, action, object, fromId, beforeId } = filter;
    return this.database.run((manager) =>
      manager.query<AuditRow[]>(
        `SELECT id, occurred_at, tenant_id, client_id, action, object, outcome, status_code, error_code, request_id,
                address, certificate
         FROM audit_events
         WHERE tenant_id = $1 AND ($2::text IS NULL OR client_id = $2) AND ($3::text IS NULL OR action = $3)
           AND ($4::text IS NULL OR object = $4) AND ($5::uuid IS NULL OR id >= $5) AND ($6::uuid IS NULL OR id < $6)
         ORDER BY id DESC LIMIT $7`,
        [tenantId, clientId, action, object, fromId, beforeId, limit],
      ),
    );
  }
}
