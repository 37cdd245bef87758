import { type ArgumentMetadata, Injectable, type ValidationError, ValidationPipe } from '@nestjs/common';
import { freeFormRules } from './free-form.decorator';
import { refusalOf } from './refused-as.decorator';
import { type ErrorDetail, ServiceError } from './service-error';

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
    const { ruled, freeForm, details } = takeApart(value ?? {}, metadata.metatype);
    const dto = await this.validateRuled(ruled, metadata, details);
    if (details.length === 0) return Object.assign(dto as object, freeForm);
    const { code, message } = refusalOf(metadata.metatype);
    throw new ServiceError(code, message, { details });
  }

  private async validateRuled(value: unknown, metadata: ArgumentMetadata, details: ErrorDetail[]): Promise<unknown> {
    try {
      return (await super.transform(value, metadata)) as unknown;
    } catch (error) {
      if (!(error instanceof InvalidRequest)) throw error;
      details.push(...error.details);
      return undefined;
    }
  }
}

/** Separates the properties that class-validator knows from the free-form ones, whose faults are found here. */
function takeApart(value: unknown, dto: object | undefined) {
  const details: ErrorDetail[] = [];
  const freeForm: Record<string, unknown> = {};
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    details.push({ field: '', message: 'must be a JSON object' });
    return { ruled: {}, freeForm, details };
  }
  const ruled: Record<string, unknown> = { ...value };
  for (const [property, { isValid, message }] of freeFormRules(dto)) {
    if (ruled[property] === undefined) continue;
    if (!isValid(ruled[property])) details.push({ field: property, message: `${property} ${message}` });
    freeForm[property] = ruled[property];
    delete ruled[property];
  }
  details.push(...inheritedNames(ruled));
  return { ruled, freeForm, details };
}

/**
 * Fields named like what every object inherits (`__proto__`, `toString`). They are unknown fields as others are, but
 * class-transformer drops some of them without a word and class-validator takes others for known.
 */
function inheritedNames(value: unknown, parent = ''): ErrorDetail[] {
  if (typeof value !== 'object' || value === null) return [];
  return Object.entries(value).flatMap(([name, child]) => {
    const field = join(parent, name);
    if (name in Object.prototype) return [{ field, message: `property ${name} should not exist` }];
    return inheritedNames(child, field);
  });
}

function toDetails(error: ValidationError, parent = ''): ErrorDetail[] {
  const field = join(parent, error.property);
  const messages = Object.values(error.constraints ?? {}).map((message) => ({ field, message }));
  return [...messages, ...(error.children ?? []).flatMap((child) => toDetails(child, field))];
}

/** Paths are written as in the guide: `items[0].sku`. */
function join(parent: string, name: string): string {
  if (parent === '') return name;
  return /^\d+$/.test(name) ? `${parent}[${name}]` : `${parent}.${name}`;
}
