import { ApiPropertyOptional } from '@nestjs/swagger';
import { IsAbsentOr, IsText } from '@platform/validation';
import { Transform } from 'class-transformer';
import { IsInt, Max, Min } from 'class-validator';

/** Query parameters of every list. A list adds its filters in a subclass. */
export abstract class PageQuery {
  @ApiPropertyOptional({ type: 'integer', minimum: 1, maximum: 200, default: 50 })
  @Transform(({ value }) => (typeof value === 'string' && /^\d{1,9}$/.test(value) ? Number(value) : (value as unknown)))
  @IsInt()
  @Min(1)
  @Max(200)
  readonly limit: number = 50;

  @ApiPropertyOptional({
    minLength: 1,
    maxLength: 200,
    description: 'From `links.next` of the page before; good with the same filters only',
  })
  @IsAbsentOr()
  @IsText(200)
  readonly cursor?: string;
}
