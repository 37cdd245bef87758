import { type ArgumentMetadata, Injectable, type ValidationError, ValidationPipe } from '@nestjs/common';
import { type ErrorDetail, ServiceError } from './service-error';
import { refusalOf } from './refused-as.decorator';

class InvalidRequest extends Error {
  constructor(readonly details: ErrorDetail[]) {
    super();
  }
}

/** Validates bodies and queries against their DTO; refuses unknown fields; names each fault by its path. */
@Injectable()
export class RequestValidationPipe extends ValidationPipe {
  constructor() {
    super({
      transform: true,
      whitelist: true,
      forbidNonWhitelisted: true,
      forbidUnknownValues: true,
      exceptionFactory: (errors) => new InvalidRequest(errors.flatMap((error) => toDetails(error))),
    });
  }

  override async transform(value: unknown, metadata: ArgumentMetadata): Promise<unknown> {
    if (!this.toValidate(metadata)) return value;
    try {
      if (Array.isArray(value)) throw new InvalidRequest([{ field: '', message: 'must be a JSON object' }]);
      return (await super.transform(value ?? {}, metadata)) as unknown;
    } catch (error) {
      if (!(error instanceof InvalidRequest)) throw error;
      const { code, message } = refusalOf(metadata.metatype);
      throw new ServiceError(code, message, { details: error.details });
    }
  }
}

/** Paths are written as in the guide: `items[0].sku`. */
function toDetails(error: ValidationError, parent = ''): ErrorDetail[] {
  const own = /^\d+$/.test(error.property) ? `[${error.property}]` : error.property;
  const field = parent === '' || own.startsWith('[') ? parent + own : `${parent}.${own}`;
  const messages = Object.values(error.constraints ?? {}).map((message) => ({ field, message }));
  return [...messages, ...(error.children ?? []).flatMap((child) => toDetails(child, field))];
}
