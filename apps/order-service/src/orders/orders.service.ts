import { Injectable } from '@nestjs/common';
import { auditRow } from '@platform/audit';
import { SharedReads } from '@platform/database';
import { ServiceError } from '@platform/errors';
import { fingerprint } from '@platform/idempotency';
import { idsAfter, idsFrom, momentOf, newTimeId } from '@platform/ids';
import { outboxRow } from '@platform/messaging';
import { PageCursor } from '@platform/paging';
import { currentContext, orderIdOf, type Principal } from '@platform/request-context';
import { InjectMetric } from '@willsoto/nestjs-prometheus';
import type { Counter } from 'prom-client';
import type { CreateOrderDto } from './create-order.dto';
import type { ListOrdersQuery } from './list-orders.query';
import { OrderLifecycleService } from './order-lifecycle.service';
import { toOrderUuid } from './order-id';
import { NEW_ORDER, OrderStore } from './order-store';
import { priceFaults } from './order-total';
import type { Order } from './order.entity';
import { orderJson, type OrderReceipt, type OrderView, toEventData, toOrderView, toReceipt } from './order.view';

/** The answer to a create request; a replay has the same bytes as the first answer. */
interface CreateAnswer {
  /** JSON of an `OrderReceipt`. */
  readonly body: string;
  /** Path of the order. */
  readonly location: string;
  readonly replayed: boolean;
}

@Injectable()
export class OrdersService {
  private readonly lists = new SharedReads<string>();

  constructor(
    private readonly store: OrderStore,
    private readonly pages: PageCursor,
    private readonly lifecycle: OrderLifecycleService,
    @InjectMetric('orders_created_total') private readonly created: Counter,
    @InjectMetric('idempotent_replays_total') private readonly replays: Counter,
  ) {}

  /**
   * Accepts the order once, however often the request is repeated.
   * @throws {ServiceError} ORDER_VALIDATION_FAILED for prices that are wrong or do not add up; IDEMPOTENCY_KEY_REUSED
   */
  async create({ tenantId, clientId }: Principal, key: string, request: CreateOrderDto): Promise<CreateAnswer> {
    const details = priceFaults(request);
    if (details.length > 0) throw new ServiceError('ORDER_VALIDATION_FAILED', 'Invalid order payload', { details });

    const order = newOrder(tenantId, clientId, request);
    const data = toEventData(order);
    const receipt = toReceipt(data);
    const body = JSON.stringify(receipt);
    const firstAnswer = await this.store.insert({
      order,
      event: outboxRow({ ...NEW_ORDER.event, aggregateId: receipt.orderId, sequence: order.eventSequence, data }),
      audit: auditRow({ ...NEW_ORDER.audit, object: receipt.orderId }),
      scope: { tenantId, clientId, route: NEW_ORDER.route },
      key,
      fingerprint: fingerprint(key, { ...request, idempotencyKey: undefined }),
      answer: body,
    });
    if (firstAnswer !== undefined) {
      this.replays.inc();
      const { orderId, links } = JSON.parse(firstAnswer) as OrderReceipt;
      setContextOrder(orderId);
      return { body: firstAnswer, location: links.self, replayed: true };
    }
    this.created.inc();
    setContextOrder(receipt.orderId);
    return { body, location: receipt.links.self, replayed: false };
  }

  /**
   * @returns the JSON of an `OrderView`
   * @throws {ServiceError} ORDER_NOT_FOUND, also for an order of another tenant
   */
  async get({ tenantId }: Principal, orderId: string): Promise<{ body: string; version: number }> {
    setContextOrder(orderId);
    const order = await this.store.show(tenantId, toOrderUuid(orderId));
    if (!order) throw new ServiceError('ORDER_NOT_FOUND', 'There is no such order');
    return { body: orderJson(order), version: order.version };
  }

  /**
   * @param ifMatch the header `If-Match`, if the client sent it
   * @throws {ServiceError} ORDER_NOT_FOUND, PRECONDITION_FAILED, ORDER_STATUS_CONFLICT
   */
  async cancel(
    { tenantId }: Principal,
    orderId: string,
    reason: string,
    ifMatch: string | undefined,
  ): Promise<OrderView> {
    setContextOrder(orderId);
    const order = await this.lifecycle.cancel(tenantId, orderId, reason, ifMatch);
    return toOrderView(order);
  }

  /** @returns the JSON of an `OrderPage` */
  list({ tenantId }: Principal, query: ListOrdersQuery): Promise<string> {
    return this.lists.read(JSON.stringify([tenantId, query]), () => this.readList(tenantId, query));
  }

  private async readList(tenantId: string, query: ListOrdersQuery): Promise<string> {
    const { status, customerId, createdAfter, createdBefore } = query;
    // A range of time is a range of ids, because an id contains the millisecond of its creation.
    const filter = { status, customerId, fromId: createdAfter && idsAfter(createdAfter) };
    const end = createdBefore && idsFrom(createdBefore);
    const { items, links } = await this.pages.page('/v1/orders', tenantId, query, (limit, beforeId = end) =>
      this.store.list(tenantId, { ...filter, beforeId }, limit),
    );
    let data = ''; // not by `join`: V8 would copy all of the text once more
    for (const order of items) data += data === '' ? orderJson(order) : `,${orderJson(order)}`;
    return `{"data":[${data}],"links":${JSON.stringify(links)}}`;
  }
}

function newOrder(tenantId: string, clientId: string, request: CreateOrderDto): Order {
  const id = newTimeId();
  const createdAt = momentOf(id);
  return {
    ...NEW_ORDER.order,
    id,
    tenantId,
    clientId,
    customerId: request.customerId,
    currency: request.totalAmount.currency,
    totalValue: request.totalAmount.value,
    items: request.items,
    metadata: request.metadata ?? null,
    createdAt,
    updatedAt: createdAt,
    paymentId: null,
    paymentStatus: null,
    reason: null,
  };
}

/** Names the order in logs and traces, also when it is refused, unless what the client sent is no order id. */
function setContextOrder(orderId: string): void {
  const context = currentContext();
  if (context) context.orderId = orderIdOf(orderId);
}
