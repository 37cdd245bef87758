import { Injectable } from '@nestjs/common';
import { Database } from '@platform/database';
import { ServiceError } from '@platform/errors';
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

/**
 * Concurrent lists in one process. If nothing matches `clientId` and `action` together, PostgreSQL reads all that the
 * client ever did: for a second at most, during which the list occupies a connection of the pool.
 */
const MAX_LISTS = 3;

const APPEND = `${AUDIT_EVENTS.insertAll()} ON CONFLICT DO NOTHING`;

/** Reads `audit_events`, and appends events that belong to no change; a change inserts its own in its transaction. */
@Injectable()
export class AuditTrail {
  private lists = 0;

  constructor(private readonly database: Database) {}

  /** Appends events that belong to no change. Safe to repeat: rows that exist already are skipped. */
  async append(rows: readonly AuditRow[]): Promise<void> {
    if (rows.length === 0) return;
    await this.database.run((manager) => manager.query(APPEND, AUDIT_EVENTS.parameters(rows)));
  }

  /**
   * Newest first.
   * @throws {ServiceError} SERVICE_UNAVAILABLE at once, when three lists are being read already
   */
  async list(tenantId: string, filter: AuditFilter, limit: number): Promise<AuditRow[]> {
    if (this.lists >= MAX_LISTS)
      throw ServiceError.unavailable(new Error('Too many lists of the audit trail are being read already'));
    const { clientId, action, object, fromId, beforeId } = filter;
    this.lists += 1;
    try {
      return await this.database.run((manager) =>
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
    } finally {
      this.lists -= 1;
    }
  }
}
