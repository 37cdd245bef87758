import { ApiPropertyOptional } from '@nestjs/swagger';
import { PageQuery } from '@platform/paging';
import { IsStorableText, IsTimestamp, MaxLength } from '@platform/validation';
import { IsNotEmpty, IsOptional, IsString } from 'class-validator';

/** The query of `GET /v1/audit-events`. All filters hold at once. */
export class ListAuditEventsQuery extends PageQuery {
  @ApiPropertyOptional({ minLength: 1, maxLength: 255 })
  @IsOptional()
  @IsString()
  @IsNotEmpty()
  @MaxLength(255)
  @IsStorableText()
  readonly clientId?: string;

  @ApiPropertyOptional({ minLength: 1, maxLength: 100, example: 'order.create' })
  @IsOptional()
  @IsString()
  @IsNotEmpty()
  @MaxLength(100)
  @IsStorableText()
  readonly action?: string;

  @ApiPropertyOptional({ minLength: 1, maxLength: 100 })
  @IsOptional()
  @IsString()
  @IsNotEmpty()
  @MaxLength(100)
  @IsStorableText()
  readonly orderId?: string;

  @ApiPropertyOptional({ format: 'date-time', description: 'What happened at this instant or later' })
  @IsOptional()
  @IsTimestamp()
  readonly from?: string;

  @ApiPropertyOptional({ format: 'date-time', description: 'What happened before this instant' })
  @IsOptional()
  @IsTimestamp()
  readonly to?: string;
}
