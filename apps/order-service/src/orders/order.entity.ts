import { Column, Entity, PrimaryColumn } from 'typeorm';
import type { OrderStatus } from './order-status';

/** As the payment API answered; `VOIDED` once it has voided the payment. */
export type PaymentStatus = 'AUTHORIZED' | 'DECLINED' | 'VOIDED';

export interface OrderItem {
  readonly sku: string;
  readonly quantity: number;
  /** Decimal string in the order's currency. */
  readonly unitPrice?: string;
}

/** An order as it is stored: a whole, with its items in one column. */
@Entity('orders')
export class Order {
  @PrimaryColumn('uuid')
  id: string;

  @Column('text', { name: 'tenant_id' })
  tenantId: string;

  @Column('text', { name: 'client_id' })
  clientId: string;

  @Column('text', { name: 'customer_id' })
  customerId: string;

  @Column('text')
  status: OrderStatus;

  @Column('text')
  currency: string;

  @Column('numeric', { name: 'total_value' })
  totalValue: string;

  @Column('jsonb')
  items: OrderItem[];

  @Column('jsonb', { nullable: true })
  metadata: Record<string, unknown> | null;

  @Column('integer')
  version: number;

  @Column('integer', { name: 'event_sequence' })
  eventSequence: number;

  @Column('timestamptz', { name: 'created_at' })
  createdAt: Date;

  @Column('timestamptz', { name: 'updated_at' })
  updatedAt: Date;

  /** Null until the payment API has answered. */
  @Column('text', { name: 'payment_id', nullable: true })
  paymentId: string | null;

  @Column('text', { name: 'payment_status', nullable: true })
  paymentStatus: PaymentStatus | null;

  /** Why the order was rejected or cancelled. */
  @Column('text', { nullable: true })
  reason: string | null;
}
