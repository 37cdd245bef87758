import { Controller, HttpCode, Param, Post } from '@nestjs/common';
import { ApiOkResponse, ApiOperation, ApiTags } from '@nestjs/swagger';
import { Audited } from '@platform/audit';
import { CurrentPrincipal, RequireScopes } from '@platform/auth';
import type { Principal } from '@platform/request-context';
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
      'A pseudonym takes the place of the customer in all orders; their metadata is dropped. May be repeated.',
  })
  @ApiOkResponse({ type: ErasureView })
  erase(@CurrentPrincipal() principal: Principal, @Param() { customerId }: ErasureParams): Promise<ErasureView> {
    return this.erasures.erase(principal, customerId);
  }
}
