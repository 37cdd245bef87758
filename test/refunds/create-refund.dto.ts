import { ApiProperty, ApiPropertyOptional } from '@nestjs/swagger';
import { IDEMPOTENCY_KEY_SCHEMA } from '@platform/idempotency';
import { IsAbsentOr, IsText, RefusedAs } from '@platform/validation';
import { IsString, Matches } from 'class-validator';

const AMOUNT = /^(0|[1-9]\d{0,17})(\.\d{1,4})?$/;

@RefusedAs({ code: 'VALIDATION_FAILED', message: 'Invalid refund' })
export class CreateRefundDto {
  @ApiPropertyOptional(IDEMPOTENCY_KEY_SCHEMA)
  @IsAbsentOr()
  @IsString()
  readonly idempotencyKey?: string;

  @ApiProperty({ pattern: AMOUNT.source, example: '49.99' })
  @IsString()
  @Matches(AMOUNT)
  readonly amount: string;

  /** May name somebody. */
  @ApiPropertyOptional({ minLength: 1, maxLength: 200 })
  @IsAbsentOr()
  @IsText(200)
  readonly reason?: string;
}
