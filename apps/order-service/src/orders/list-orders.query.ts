import { ApiPropertyOptional } from '@nestjs/swagger';
import { RefusedAs } from '@platform/errors';
import { PageQuery } from '@platform/paging';
import { IsStorableText, IsTimestamp, MaxLength } from '@platform/validation';
import { IsIn, IsNotEmpty, IsOptional, IsString } from 'class-validator';
import { ORDER_STATUSES, type OrderStatus } from './order-status';

/** The query of `GET /v1/orders`. All filters hold at once. */
@RefusedAs({ code: 'ORDER_VALIDATION_FAILED', message: 'Invalid order query' })
export class ListOrdersQuery extends PageQuery {
  @ApiPropertyOptional({ enum: ORDER_STATUSES })
  @IsOptional()
  @IsIn(ORDER_STATUSES)
  readonly status?: OrderStatus;

  @ApiPropertyOptional({ minLength: 1, maxLength: 128 })
  @IsOptional()
  @IsString()
  @IsNotEmpty()
  @MaxLength(128)
  @IsStorableText()
  readonly customerId?: string;

  @ApiPropertyOptional({ format: 'date-time', description: 'Orders created after this instant' })
  @IsOptional()
  @IsTimestamp()
  readonly createdAfter?: string;

  @ApiPropertyOptional({ format: 'date-time', description: 'Orders created before this instant' })
  @IsOptional()
  @IsTimestamp()
  readonly createdBefore?: string;
}
