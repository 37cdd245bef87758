import { Injectable } from '@nestjs/common';
import { Database } from '@platform/database';
import type { EntityManager } from 'typeorm';
import { type AuditRow, auditInsert, auditValues } from './audit-row';

export interface AuditFilter {
  readonly clientId?: string;
  readonly action?: string;
  readonly object?: string;
  /** Only ids from here on. */
  readonly fromId?: string;
  /** Only ids before this one. */
  readonly beforeId?: string;
}

const INSERT_ALL = `
  INSERT INTO audit_events (id, occurred_at, tenant_id, client_id, action, object, outcome, status_code, error_code,
                            request_id, address, certificate)
  SELECT "id", "occurredAt", "tenantId", "clientId", "action", "object", "outcome", "statusCode", "errorCode",
         "requestId", "address", "certificate"
  FROM jsonb_to_recordset($1::jsonb) AS row (
    "id" uuid, "occurredAt" timestamptz, "tenantId" text, "clientId" text, "action" text, "object" text,
    "outcome" text, "statusCode" smallint, "errorCode" text, "requestId" text, "address" text, "certificate" text)
  ON CONFLICT DO NOTHING`;

/** The only place that reads and writes the table `audit_events`, apart from those who seal and verify it. */
@Injectable()
export class AuditTrail {
  constructor(private readonly database: Database) {}

  /** Writes a row with the change that it is about. A statement of one's own can hold {@link auditInsert} instead. */
  async record(tx: EntityManager, row: AuditRow): Promise<void> {
    await tx.query(auditInsert(1), auditValues(row));
  }

  /** Writes rows that belong to no change. May be repeated: what is there already is passed over. */
  async append(rows: readonly AuditRow[]): Promise<void> {
    if (rows.length === 0) return;
    await this.database.run((manager) => manager.query(INSERT_ALL, [JSON.stringify(rows)]));
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
