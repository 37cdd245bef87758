import { Body, Controller, Get, Headers, HttpCode, Param, Post, Query, Res } from '@nestjs/common';
import {
  ApiBody,
  ApiConflictResponse,
  ApiHeader,
  ApiNotFoundResponse,
  ApiOkResponse,
  ApiOperation,
  ApiPreconditionFailedResponse,
  ApiResponse,
  ApiTags,
} from '@nestjs/swagger';
import { Audited } from '@platform/audit';
import { CurrentPrincipal, RequireScopes } from '@platform/auth';
import { IDEMPOTENCY_KEY_SCHEMA, idempotencyKey } from '@platform/idempotency';
import type { Principal } from '@platform/request-context';
import { refusalOf } from '@platform/validation';
import type { Response } from 'express';
import { CancelOrderDto } from './cancel-order.dto';
import { CreateOrderDto } from './create-order.dto';
import { etagOf, matchesNone } from './etag';
import { ListOrdersQuery } from './list-orders.query';
import { NEW_ORDER } from './order-store';
import { OrderPage, OrderReceipt, OrderView } from './order.view';
import { OrdersService } from './orders.service';

const NO_SUCH_ORDER = 'Your tenant has no such order';

@ApiTags('orders')
@Controller({ path: 'orders', version: '1' })
export class OrdersController {
  constructor(private readonly orders: OrdersService) {}

  @Post()
  @RequireScopes('orders:write')
  @Audited(NEW_ORDER.audit.action)
  @ApiOperation({
    summary: 'Create an order, once',
    operationId: 'createOrder',
    description: 'A retry with the same idempotency key creates no second order: it gets the first answer again.',
  })
  @ApiHeader({
    name: 'Idempotency-Key',
    required: false,
    schema: IDEMPOTENCY_KEY_SCHEMA,
    description: 'Bare or in double quotes. Required: here or as `idempotencyKey` in the body.',
  })
  @ApiResponse({
    status: 201,
    type: OrderReceipt,
    description: 'The order was accepted, by this request or by an earlier one with the same key',
    headers: {
      Location: { description: 'Path of the order', schema: { type: 'string' } },
      'Idempotent-Replayed': {
        description: '`true` when an earlier request with this key created the order',
        schema: { type: 'string' },
      },
    },
  })
  @ApiConflictResponse({ description: 'The idempotency key was used for another request' })
  async create(
    @CurrentPrincipal() principal: Principal,
    @Headers('idempotency-key') header: string | undefined,
    @Body() request: CreateOrderDto,
    @Res({ passthrough: true }) res: Response,
  ): Promise<string> {
    const key = idempotencyKey(header, request.idempotencyKey, refusalOf(CreateOrderDto));
    const { body, location, replayed } = await this.orders.create(principal, key, request);
    if (replayed) res.set('Idempotent-Replayed', 'true');
    res.location(location).type('json');
    return body;
  }

  @Get(':orderId')
  @RequireScopes('orders:read')
  @Audited('order.read')
  @ApiOperation({ summary: 'Fetch an order', operationId: 'getOrder' })
  @ApiHeader({
    name: 'If-None-Match',
    required: false,
    description: 'An `ETag`: the answer is 304 while it is current.',
  })
  @ApiOkResponse({ type: OrderView, headers: { ETag: { schema: { type: 'string' } } } })
  @ApiResponse({
    status: 304,
    description: 'The order has not changed since the `ETag`',
    headers: { ETag: { schema: { type: 'string' } } },
  })
  @ApiNotFoundResponse({ description: NO_SUCH_ORDER })
  async get(
    @CurrentPrincipal() principal: Principal,
    @Param('orderId') orderId: string,
    @Headers('if-none-match') ifNoneMatch: string | undefined,
    @Res({ passthrough: true }) res: Response,
  ): Promise<string> {
    const { body, version } = await this.orders.get(principal, orderId);
    const etag = etagOf(version);
    res.set('ETag', etag).type('json');
    if (!matchesNone(ifNoneMatch, etag)) res.status(304); // Express then sends no body
    return body;
  }

  @Post(':orderId/cancel')
  @HttpCode(200)
  @RequireScopes('orders:write')
  @Audited('order.cancel')
  @ApiOperation({
    summary: 'Cancel an order',
    operationId: 'cancelOrder',
    description: 'An authorised payment is voided. Cancelling a cancelled order again succeeds and changes nothing.',
  })
  @ApiBody({ type: CancelOrderDto, required: false })
  @ApiHeader({
    name: 'If-Match',
    required: false,
    description: 'An `ETag`: the answer is 412 when the order has changed.',
  })
  @ApiOkResponse({ type: OrderView, headers: { ETag: { schema: { type: 'string' } } } })
  @ApiNotFoundResponse({ description: NO_SUCH_ORDER })
  @ApiConflictResponse({ description: 'The order is `REJECTED` and cannot be cancelled' })
  @ApiPreconditionFailedResponse({ description: 'The order has changed since the `ETag` in `If-Match`' })
  async cancel(
    @CurrentPrincipal() principal: Principal,
    @Param('orderId') orderId: string,
    @Headers('if-match') ifMatch: string | undefined,
    @Body() { reason }: CancelOrderDto,
    @Res({ passthrough: true }) res: Response,
  ): Promise<OrderView> {
    const order = await this.orders.cancel(principal, orderId, reason, ifMatch);
    res.set('ETag', etagOf(order.version));
    return order;
  }

  @Get()
  @RequireScopes('orders:read')
  @Audited('order.list')
  @ApiOperation({
    summary: 'List orders, newest first',
    operationId: 'listOrders',
    description: 'A page may have fewer orders than `limit`, even none: follow `links.next` until it is absent.',
  })
  @ApiOkResponse({ type: OrderPage })
  list(
    @CurrentPrincipal() principal: Principal,
    @Query() query: ListOrdersQuery,
    @Res({ passthrough: true }) res: Response,
  ): Promise<string> {
    res.type('json');
    return this.orders.list(principal, query);
  }
}
