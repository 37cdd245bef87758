import { ApiPropertyOptional } from '@nestjs/swagger';
import { RefusedAs } from '@platform/errors';
import { Transform } from 'class-transformer';
import { IsIn, IsInt, IsNotEmpty, IsOptional, IsString, Max, MaxLength, Min } from 'class-validator';
import { ORDER_STATUSES, type OrderStatus } from './order-status';
import { IsStorableText, IsTimestamp } from './validators';

/** The query of `GET /v1/orders`. All filters hold at once. */
@RefusedAs({ code: 'ORDER_VALIDATION_FAILED', message: 'Invalid order query' })
export class ListOrdersQuery {
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

  @ApiPropertyOptional({ type: 'integer', minimum: 1, maximum: 200, default: 50 })
  @Transform(({ value }) => (typeof value === 'string' && /^\d{1,9}$/.test(value) ? Number(value) : (value as unknown)))
  @IsInt()
  @Min(1)
  @Max(200)
  readonly limit: number = 50;

  @ApiPropertyOptional({
    minLength: 1,
    description: 'From `links.next` of the page before; good with the same filters only',
  })
  @IsOptional()
  @IsString()
  @MaxLength(200)
  readonly cursor?: string;
}
