import { Injectable } from '@nestjs/common';
import { Database, type Transaction } from '@platform/database';

interface Refund {
  readonly id: string;
  readonly tenantId: string;
  readonly orderId: string;
  readonly amount: string;
  readonly reason: string | undefined;
}

@Injectable()
export class RefundStore {
  constructor(private readonly database: Database) {}

  async insert(tx: Transaction, { id, tenantId, orderId, amount, reason }: Refund): Promise<void> {
    await tx.query('INSERT INTO refunds (id, tenant_id, order_id, amount, reason) VALUES ($1, $2, $3, $4, $5)', [
      ...[id, tenantId, orderId, amount, reason],
    ]);
  }

  /** @param orderIds UUIDs of orders whose customer was erased */
  async forget(tx: Transaction, orderIds: readonly string[]): Promise<void> {
    await tx.query('UPDATE refunds SET reason = NULL WHERE order_id = ANY($1::uuid[])', [orderIds]);
  }

  async markPaid(id: string): Promise<void> {
    await this.database.run((manager) => manager.query('UPDATE refunds SET paid_at = now() WHERE id = $1', [id]));
  }
}
