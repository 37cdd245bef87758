import { ApiProperty } from '@nestjs/swagger';
import { IsText } from '@platform/validation';

/** The path of `POST /v1/customers/{customerId}/erasure`. */
export class ErasureParams {
  @ApiProperty({ minLength: 1, maxLength: 128 })
  @IsText(128)
  readonly customerId: string;
}
