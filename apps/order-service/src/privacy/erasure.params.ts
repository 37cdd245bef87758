import { ApiProperty } from '@nestjs/swagger';
import { IsStorableText, MaxLength } from '@platform/validation';
import { IsNotEmpty, IsString } from 'class-validator';

/** The path of `POST /v1/customers/{customerId}/erasure`. */
export class ErasureParams {
  @ApiProperty({ minLength: 1, maxLength: 128 })
  @IsString()
  @IsNotEmpty()
  @MaxLength(128)
  @IsStorableText()
  readonly customerId: string;
}
