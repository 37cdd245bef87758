import { Controller, HttpCode, Param, Post, Req } from '@nestjs/common';
import { ApiConflictResponse, ApiOkResponse, ApiOperation, ApiTags } from '@nestjs/swagger';
import { Audited } from '@platform/audit';
import { CurrentPrincipal, RequireScopes } from '@platform/auth';
import { ServiceError } from '@platform/errors';
import type { Principal } from '@platform/request-context';
import { isJsonObject, refusalOf } from '@platform/validation';
import type { Request } from 'express';
import { ErasureParams } from './erasure.params';
import { ErasureService } from './erasure.service';
import { ErasureView } from './erasure.view';

@ApiTags('privacy')
@Controller({ path: 'customers', version: '1' })
export class PrivacyController {
  constructor(private readonly erasures: ErasureService) {}

  @Post(':customerId/erasure')
  @HttpCode(200)
  @RequireScopes('privacy:erase')
  @Audited('customer.erase')
  @ApiOperation({
    summary: 'Erase a customer’s personal data, for good',
    operationId: 'eraseCustomer',
    description:
      'A pseudonym replaces the customer id in all orders of the customer; their metadata is deleted, and the reason why ' +
      'they were rejected or cancelled. May be repeated.',
  })
  @ApiOkResponse({ type: ErasureView })
  @ApiConflictResponse({
    description: 'A payment of the customer is under way, or its outcome is unknown; try again later',
  })
  erase(
    @CurrentPrincipal() principal: Principal,
    @Param() { customerId }: ErasureParams,
    @Req() { query, body }: Request<unknown, unknown, unknown>,
  ): Promise<ErasureView> {
    // Parameters are refused: an erasure is final, and whoever sends `dryRun` must not learn later that there is none.
    const sent = body ?? {};
    const details = isJsonObject(sent)
      ? Object.keys({ ...query, ...sent }).map((field) => ({ field, message: `property ${field} should not exist` }))
      : [{ field: '', message: 'must be a JSON object' }];
    if (details.length > 0) {
      const { code, message } = refusalOf(ErasureParams);
      throw new ServiceError(code, message, { details });
    }
    return this.erasures.erase(principal, customerId);
  }
}
