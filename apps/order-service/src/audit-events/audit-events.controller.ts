import { Controller, Get, Query } from '@nestjs/common';
import { ApiOkResponse, ApiOperation, ApiTags } from '@nestjs/swagger';
import { Audited, AuditTrail } from '@platform/audit';
import { CurrentPrincipal, RequireScopes } from '@platform/auth';
import { idsFrom } from '@platform/ids';
import { PageCursor } from '@platform/paging';
import type { Principal } from '@platform/request-context';
import { AuditEventPage, toAuditEventView } from './audit-event.view';
import { ListAuditEventsQuery } from './list-audit-events.query';

@ApiTags('audit')
@Controller({ path: 'audit-events', version: '1' })
export class AuditEventsController {
  constructor(
    private readonly trail: AuditTrail,
    private readonly pages: PageCursor,
  ) {}

  @Get()
  @RequireScopes('audit:read')
  @Audited('audit.read')
  @ApiOperation({
    summary: 'List what happened in your tenant and what was refused, newest first',
    operationId: 'listAuditEvents',
    description: 'Reads are recorded only if they were refused.',
  })
  @ApiOkResponse({ type: AuditEventPage })
  async list(
    @CurrentPrincipal() { tenantId }: Principal,
    @Query() query: ListAuditEventsQuery,
  ): Promise<AuditEventPage> {
    const { clientId, action, orderId, from, to } = query;
    const filter = { clientId, action, object: orderId, fromId: from && idsFrom(from) };
    const end = to && idsFrom(to);
    const { items, links } = await this.pages.page(
      '/v1/audit-events',
      tenantId,
      query,
      async (limit, beforeId = end) => {
        const rows = await this.trail.list(tenantId, { ...filter, beforeId }, limit + 1); // the extra row shows whether there is a next page
        return { items: rows.slice(0, limit), nextBeforeId: rows.length > limit ? rows[limit - 1]?.id : undefined };
      },
    );
    return { data: items.map(toAuditEventView), links };
  }
}
