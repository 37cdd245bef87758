import { Injectable } from '@nestjs/common';
import { Database, type Transaction } from '@platform/database';

interface Refund {
  readonly id: string;
  readonly tenantId: string;
  readonly orderId: string;
  readonly amount: string;
}

@Injectable()
export class RefundStore {
  constructor(private readonly database: Database) {}

  async insert(tx: Transaction, { id, tenantId, orderId, amount }: Refund): Promise<void> {
    await tx.query('INSERT INTO refunds (id, tenant_id, order_id, amount) VALUES ($1, $2, $3, $4)', [
      ...[id, tenantId, orderId, amount],
    ]);
  }

  async markPaid(id: string): Promise<void> {
    await this.database.run((manager) => manager.query('UPDATE refunds SET paid_at = now() WHERE id = $1', [id]));
  }
}
