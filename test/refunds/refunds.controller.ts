import { Body, Controller, Headers, Param, Post, Res } from '@nestjs/common';
import { Audited } from '@platform/audit';
import { CurrentPrincipal, RequireScopes } from '@platform/auth';
import { idempotencyKey } from '@platform/idempotency';
import type { Principal } from '@platform/request-context';
import { refusalOf } from '@platform/validation';
import type { Response } from 'express';
import { CreateRefundDto } from './create-refund.dto';
import { RefundsService } from './refunds.service';

@Controller({ path: 'orders/:orderId/refunds', version: '1' })
export class RefundsController {
  constructor(private readonly refunds: RefundsService) {}

  @Post()
  @RequireScopes('orders:write')
  @Audited('refund.create')
  async create(
    @CurrentPrincipal() principal: Principal,
    @Param('orderId') orderId: string,
    @Headers('idempotency-key') header: string | undefined,
    @Body() request: CreateRefundDto,
    @Res({ passthrough: true }) res: Response,
  ) {
    const key = idempotencyKey(header, request.idempotencyKey, refusalOf(CreateRefundDto));
    const { body, replayed } = await this.refunds.create(principal, key, orderId, request);
    if (replayed) res.set('Idempotent-Replayed', 'true');
    res.type('json'); // the body is a text already
    return body;
  }
}
