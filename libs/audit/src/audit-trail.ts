import { Injectable } from '@nestjs/common';
import { Database } from '@platform/database';
import { auditArrays, auditInsertAll, type AuditRow } from './audit-row';

export interface AuditFilter {
  readonly clientId?: string;
  readonly action?: string;
  readonly object?: string;
  /** Only ids from here on. */
  readonly fromId?: string;
  /** Only ids before this one. */
  readonly beforeId?: string;
}

const APPEND = `${auditInsertAll(1)} ON CONFLICT DO NOTHING`;

/** Reads the table `audit_events`, and writes what belongs to no change; changes write theirs with `auditInsert`. */
@Injectable()
export class AuditTrail {
  constructor(private readonly database: Database) {}

  /** Writes rows that belong to no change. May be repeated: what is there already is passed over. */
  async append(rows: readonly AuditRow[]): Promise<void> {
    if (rows.length === 0) return;
    await this.database.run((manager) => manager.query(APPEND, auditArrays(rows)));
  }

  /** Newest first. */
  list(tenantId: string, filter: AuditFilter, limit: number): Promise<AuditRow[]> {
    const { clientId, action, object, fromId, beforeId } = filter;
    return this.database.run((manager) =>
      manager.query<AuditRow[]>(
        `SELECT id, occurred_at AS "occurredAt", tenant_id AS "tenantId", client_id AS "clientId", action, object,
                outcome, status_code AS "statusCode", error_code AS "errorCode", request_id AS "requestId", address,
                certificate
         FROM audit_events
         WHERE tenant_id = $1 AND ($2::text IS NULL OR client_id = $2) AND ($3::text IS NULL OR action = $3)
           AND ($4::text IS NULL OR object = $4) AND ($5::uuid IS NULL OR id >= $5) AND ($6::uuid IS NULL OR id < $6)
         ORDER BY id DESC LIMIT $7`,
        [tenantId, clientId, action, object, fromId, beforeId, limit],
      ),
    );
  }
}
