import { ApiProperty, ApiPropertyOptional } from '@nestjs/swagger';
import { IDEMPOTENCY_KEY_SCHEMA } from '@platform/idempotency';
import { FreeForm, IsAbsentOr, IsText, RefusedAs } from '@platform/validation';
import { Type } from 'class-transformer';
import {
  ArrayMaxSize,
  ArrayMinSize,
  IsArray,
  IsInt,
  IsObject,
  IsString,
  Matches,
  Max,
  Min,
  ValidateNested,
} from 'class-validator';
import { FitsCurrency, IsCurrency, METADATA_RULE } from './validators';

/** Decimal number with at most 18 digits before the point. How many are allowed after it depends on the currency. */
const PRICE = /^(0|[1-9]\d{0,17})(\.\d{1,4})?$/;
/** Long enough for the sum of 500 items, each 1,000,000 pieces at the highest price. */
const TOTAL = /^(0|[1-9]\d{0,26})(\.\d{1,4})?$/;
const decimal = (digits: number) => ({
  message: `$property must be a decimal string such as "129.99", of at most ${digits} digits before the point`,
});

export class OrderItemDto {
  @ApiProperty({ minLength: 1, maxLength: 64, example: 'ABC-001' })
  @IsText(64)
  readonly sku: string;

  @ApiProperty({ type: 'integer', minimum: 1, maximum: 1_000_000, example: 2 })
  @IsInt()
  @Min(1)
  @Max(1_000_000)
  readonly quantity: number;

  @ApiPropertyOptional({
    pattern: PRICE.source,
    example: '49.99',
    description:
      'For every item or for none. If given, `totalAmount.value` must be the sum of quantity × unitPrice. Decimals as in ' +
      '`totalAmount.value`.',
  })
  @IsAbsentOr()
  @IsString()
  @Matches(PRICE, decimal(18))
  readonly unitPrice?: string;
}

export class MoneyDto {
  @ApiProperty({ pattern: '^[A-Z]{3}$', example: 'USD', description: 'ISO 4217 code' })
  @IsString()
  @IsCurrency()
  readonly currency: string;

  @ApiProperty({
    pattern: TOTAL.source,
    example: '99.98',
    description: 'Without decimals, or with exactly as many as ISO 4217 defines for the currency',
  })
  @IsString()
  @Matches(TOTAL, decimal(27))
  @FitsCurrency()
  readonly value: string;
}

/** The request of `POST /v1/orders`. */
@RefusedAs({ code: 'ORDER_VALIDATION_FAILED', message: 'Invalid order payload' })
export class CreateOrderDto {
  @ApiPropertyOptional({
    ...IDEMPOTENCY_KEY_SCHEMA,
    example: '9d0c2c1b-27e7-4e65-8a1b-43f684c2d7a9',
    description:
      'One key per order that you mean to place, the same for all retries. Required: here or in the header ' +
      '`Idempotency-Key`.',
  })
  @IsAbsentOr()
  @IsString()
  readonly idempotencyKey?: string;

  @ApiProperty({ minLength: 1, maxLength: 128, example: 'cust_123' })
  @IsText(128)
  readonly customerId: string;

  @ApiProperty({ type: [OrderItemDto], minItems: 1, maxItems: 500 })
  @IsArray()
  @ArrayMinSize(1)
  @ArrayMaxSize(500)
  @IsObject({ each: true }) // ValidateNested alone would accept lists within the list
  @ValidateNested({ each: true })
  @Type(() => OrderItemDto)
  readonly items: OrderItemDto[];

  @ApiProperty({ type: MoneyDto })
  @IsObject()
  @ValidateNested()
  @Type(() => MoneyDto)
  readonly totalAmount: MoneyDto;

  @ApiPropertyOptional({
    type: 'object',
    additionalProperties: true,
    example: { sourceSystem: 'order-orchestrator' },
    description: 'Your own data, stored and returned with the order. At most 16 KiB as JSON and 5 levels deep.',
  })
  @FreeForm(METADATA_RULE)
  readonly metadata?: Record<string, unknown>;
}
