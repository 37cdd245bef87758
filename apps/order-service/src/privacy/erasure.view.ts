import { ApiProperty } from '@nestjs/swagger';

/** The answer to `POST /v1/customers/{customerId}/erasure`. */
export class ErasureView {
  @ApiProperty({ example: 'cust_123' })
  readonly customerId: string;

  @ApiProperty({
    example: 'erased_5b0cf4d28a1b43f684c2d7a99d0e0e47',
    description: 'Replaces the customer id',
  })
  readonly pseudonym: string;

  @ApiProperty({
    type: 'integer',
    description: 'Orders that this call has erased; an earlier one may have erased others',
  })
  readonly ordersErased: number;

  @ApiProperty({ format: 'date-time' })
  readonly erasedAt: string;
}
