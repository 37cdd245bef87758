import { ApiPropertyOptional } from '@nestjs/swagger';
import { PageQuery } from '@platform/paging';
import { IsAbsentOr, IsText, IsTimestamp } from '@platform/validation';

/** The query of `GET /v1/audit-events`. An event must match all filters. */
export class ListAuditEventsQuery extends PageQuery {
  @ApiPropertyOptional({ minLength: 1, maxLength: 255 })
  @IsAbsentOr()
  @IsText(255)
  readonly clientId?: string;

  @ApiPropertyOptional({ minLength: 1, maxLength: 100, example: 'order.create' })
  @IsAbsentOr()
  @IsText(100)
  readonly action?: string;

  @ApiPropertyOptional({ minLength: 1, maxLength: 100 })
  @IsAbsentOr()
  @IsText(100)
  readonly orderId?: string;

  @ApiPropertyOptional({ format: 'date-time', description: 'Events at this instant or later' })
  @IsAbsentOr()
  @IsTimestamp()
  readonly from?: string;

  @ApiPropertyOptional({ format: 'date-time', description: 'Events before this instant' })
  @IsAbsentOr()
  @IsTimestamp()
  readonly to?: string;
}
