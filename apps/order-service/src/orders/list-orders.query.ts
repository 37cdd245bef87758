import { ApiPropertyOptional } from '@nestjs/swagger';
import { PageQuery } from '@platform/paging';
import { IsAbsentOr, IsText, IsTimestamp, RefusedAs } from '@platform/validation';
import { IsIn } from 'class-validator';
import { ORDER_STATUSES, type OrderStatus } from './order-status';

/** The query of `GET /v1/orders`. An order must match all filters. */
@RefusedAs({ code: 'ORDER_VALIDATION_FAILED', message: 'Invalid order query' })
export class ListOrdersQuery extends PageQuery {
  @ApiPropertyOptional({ enum: ORDER_STATUSES, enumName: 'OrderStatus' })
  @IsAbsentOr()
  @IsIn(ORDER_STATUSES)
  readonly status?: OrderStatus;

  @ApiPropertyOptional({ minLength: 1, maxLength: 128 })
  @IsAbsentOr()
  @IsText(128)
  readonly customerId?: string;

  @ApiPropertyOptional({ format: 'date-time', description: 'Orders created after this instant' })
  @IsAbsentOr()
  @IsTimestamp()
  readonly createdAfter?: string;

  @ApiPropertyOptional({ format: 'date-time', description: 'Orders created before this instant' })
  @IsAbsentOr()
  @IsTimestamp()
  readonly createdBefore?: string;
}
