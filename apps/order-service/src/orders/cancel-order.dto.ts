import { ApiPropertyOptional } from '@nestjs/swagger';
import { IsAbsentOr, IsText, RefusedAs } from '@platform/validation';

/** The request of `POST /v1/orders/{orderId}/cancel`, which may have no body at all. */
@RefusedAs({ code: 'ORDER_VALIDATION_FAILED', message: 'Invalid cancellation' })
export class CancelOrderDto {
  @ApiPropertyOptional({
    minLength: 1,
    maxLength: 200,
    default: 'cancelled_by_client',
    description: 'Shown with the order, and passed on to consumers of the event `order.cancelled`',
  })
  @IsAbsentOr()
  @IsText(200)
  readonly reason: string = 'cancelled_by_client';
}
