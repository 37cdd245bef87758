import type { Order } from './order.entity';

/** The columns of an order, under the property names of the entity. */
export const ORDER_COLUMNS = `
  id, tenant_id AS "tenantId", client_id AS "clientId", customer_id AS "customerId", status, currency,
  total_value AS "totalValue", items, metadata, version, event_sequence AS "eventSequence", created_at AS "createdAt",
  updated_at AS "updatedAt", payment_id AS "paymentId", payment_status AS "paymentStatus", reason`;

/** What clients see of an order, as text from PostgreSQL: its JSON is passed on without being parsed and serialised. */
export interface ShownOrder extends Pick<
  Order,
  'id' | 'customerId' | 'status' | 'currency' | 'totalValue' | 'version' | 'paymentId' | 'paymentStatus' | 'reason'
> {
  /** JSON. */
  readonly items: string;
  /** JSON. */
  readonly metadata: string | null;
  /** `2026-11-24 15:44:07.29+00`; the offset is that of the server's time zone. */
  readonly createdAt: string;
  readonly updatedAt: string;
}

/** The columns of a {@link ShownOrder}, except items and metadata. */
export const SHOWN_COLUMNS_WITHOUT_ITEMS = `
  id, customer_id AS "customerId", status, currency, total_value AS "totalValue", version,
  created_at::text AS "createdAt", updated_at::text AS "updatedAt", payment_id AS "paymentId",
  payment_status AS "paymentStatus", reason`;

/** The columns of a {@link ShownOrder}. */
export const SHOWN_COLUMNS = `${SHOWN_COLUMNS_WITHOUT_ITEMS}, items::text AS items, metadata::text AS metadata`;
