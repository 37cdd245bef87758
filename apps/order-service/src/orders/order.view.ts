import { ApiProperty, ApiPropertyOptional } from '@nestjs/swagger';
import { timestampOf, toTimestamp } from '@platform/ids';
import { PageLinks } from '@platform/paging';
import { MoneyDto, OrderItemDto } from './create-order.dto';
import type { Order, PaymentStatus } from './order.entity';
import type { ShownOrder } from './order-columns';
import { toOrderId } from './order-id';
import { ORDER_STATUSES, type OrderStatus } from './order-status';

class OrderLinks {
  @ApiProperty({ example: '/v1/orders/ord_01jfw9v6k3f0qv8w2m4x5y6z7a' })
  readonly self: string;
}

/** The answer to `POST /v1/orders`. */
export class OrderReceipt {
  @ApiProperty({ example: 'ord_01jfw9v6k3f0qv8w2m4x5y6z7a' })
  readonly orderId: string;

  @ApiProperty({ enum: ORDER_STATUSES, enumName: 'OrderStatus' })
  readonly status: OrderStatus;

  @ApiProperty({ format: 'date-time' })
  readonly createdAt: string;

  @ApiProperty()
  readonly links: OrderLinks;
}

/** Responses have schemas of their own: request schemas refuse unknown fields, while responses may gain fields. */
class OrderItemView extends OrderItemDto {}
class MoneyView extends MoneyDto {}

class PaymentView {
  @ApiProperty({ example: 'pay_5b0cf4d2' })
  readonly paymentId: string;

  @ApiProperty({ enum: ['AUTHORIZED', 'DECLINED', 'VOIDED'] satisfies PaymentStatus[] })
  readonly status: PaymentStatus;
}

/** The whole order, as clients see it. */
export class OrderView extends OrderReceipt {
  @ApiProperty({ example: 'cust_123' })
  readonly customerId: string;

  @ApiProperty({ type: [OrderItemView] })
  readonly items: readonly OrderItemView[];

  @ApiProperty()
  readonly totalAmount: MoneyView;

  @ApiPropertyOptional({ type: 'object', additionalProperties: true })
  readonly metadata?: Record<string, unknown>;

  @ApiPropertyOptional({ description: 'Present once the payment API has answered' })
  readonly payment?: PaymentView;

  @ApiPropertyOptional({
    example: 'payment_declined',
    description:
      'Why the order was rejected or cancelled. The service’s own reasons are `payment_declined`, `payment_unknown` and ' +
      '`cancelled_by_client`; others are in the words of the payment API, or of the client that cancelled. An erasure of ' +
      'the customer removes it.',
  })
  readonly reason?: string;

  @ApiProperty({ format: 'date-time' })
  readonly updatedAt: string;

  @ApiProperty({
    type: 'integer',
    minimum: 1,
    description: 'Raised by every change. In double quotes it is the `ETag`.',
  })
  readonly version: number;
}

/** A page of `GET /v1/orders`. */
export class OrderPage {
  @ApiProperty({ type: [OrderView] })
  readonly data: readonly OrderView[];

  @ApiProperty()
  readonly links: PageLinks;
}

/** The data of the order events: the whole order, without links. */
export function toEventData(order: Order): Omit<OrderView, 'links'> {
  return {
    orderId: toOrderId(order.id),
    status: order.status,
    customerId: order.customerId,
    items: order.items,
    totalAmount: { currency: order.currency, value: order.totalValue },
    ...(order.metadata !== null && { metadata: order.metadata }),
    ...(order.paymentId !== null &&
      order.paymentStatus !== null && { payment: { paymentId: order.paymentId, status: order.paymentStatus } }),
    ...(order.reason !== null && { reason: order.reason }),
    createdAt: toTimestamp(order.createdAt),
    updatedAt: toTimestamp(order.updatedAt),
    version: order.version,
  };
}

export function toOrderView(order: Order): OrderView {
  const data = toEventData(order);
  return { ...data, links: linksTo(data.orderId) };
}

/** The JSON of {@link toOrderView}, written without parsing the JSON that the order contains. */
export function orderJson(order: ShownOrder): string {
  const orderId = toOrderId(order.id);
  const { status, customerId, items, currency, totalValue, metadata, paymentId, paymentStatus, version } = order;
  const payment =
    paymentId === null || paymentStatus === null
      ? ''
      : `"payment":{"paymentId":${JSON.stringify(paymentId)},"status":"${paymentStatus}"},`;
  const reason = order.reason === null ? '' : `"reason":${JSON.stringify(order.reason)},`;
  return (
    `{"orderId":"${orderId}","status":"${status}","customerId":${JSON.stringify(customerId)},"items":${items},` +
    `"totalAmount":{"currency":"${currency}","value":"${totalValue}"},` +
    `${metadata === null ? '' : `"metadata":${metadata},`}${payment}${reason}` +
    `"createdAt":"${timestampOf(order.createdAt)}","updatedAt":"${timestampOf(order.updatedAt)}",` +
    `"version":${version},"links":{"self":"/v1/orders/${orderId}"}}`
  );
}

export function toReceipt({ orderId, status, createdAt }: ReturnType<typeof toEventData>): OrderReceipt {
  return { orderId, status, createdAt, links: linksTo(orderId) };
}

const linksTo = (orderId: string): OrderLinks => ({ self: `/v1/orders/${orderId}` });
