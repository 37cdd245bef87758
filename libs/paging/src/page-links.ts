import { ApiProperty, ApiPropertyOptional } from '@nestjs/swagger';

/** The links that `PageCursor.page` returns with the items. */
export class PageLinks {
  @ApiProperty({ description: 'This page' })
  readonly self: string;

  @ApiPropertyOptional({ description: 'The next page; absent on the last' })
  readonly next?: string;
}
