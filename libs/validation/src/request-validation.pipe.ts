import { type ArgumentMetadata, Injectable, type ValidationError, ValidationPipe } from '@nestjs/common';
import { type ErrorDetail, ServiceError } from '@platform/errors';
import { DtoRules } from './dto-rules';
import { freeFormRules } from './free-form.decorator';
import { refusalOf } from './refused-as.decorator';
import { isJsonObject } from './validators';

/** Larger requests are not validated at all; every DTO asks for less. */
const MAX_DEPTH = 16;
const MAX_LIST_LENGTH = 1_000;
const MAX_VALUES = 5_000;

class InvalidRequest extends Error {
  constructor(readonly details: ErrorDetail[]) {
    super();
  }
}

/** Validates bodies and queries against their DTO, refuses unknown fields, and names each fault by its path. */
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
    const admitted = DtoRules.of(metadata.metatype)?.admit(value);
    if (admitted) return admitted;
    // Some generated clients send `null` when they have no body.
    const { ruled, freeForm, details, isExcessive } = separateFreeForm(value ?? {}, metadata.metatype);
    const found = isExcessive ? new InvalidRequest([]) : await this.validateRuled(ruled, metadata);
    if (!(found instanceof InvalidRequest) && details.length === 0) return Object.assign(found, freeForm);
    const { code, message } = refusalOf(metadata.metatype);
    const others = found instanceof InvalidRequest ? found.details : [];
    throw new ServiceError(code, message, { details: [...details, ...others] });
  }

  private async validateRuled(value: object, metadata: ArgumentMetadata): Promise<object> {
    try {
      return (await super.transform(value, metadata)) as object;
    } catch (error) {
      if (error instanceof InvalidRequest) return error;
      throw error;
    }
  }
}

/** Separates the free-form properties, which are validated here, from those that class-validator validates. */
function separateFreeForm(value: unknown, dto: object | undefined) {
  const freeForm: Record<string, unknown> = {};
  if (!isJsonObject(value)) {
    return { ruled: {}, freeForm, details: [{ field: '', message: 'must be a JSON object' }], isExcessive: true };
  }
  const ruled: Record<string, unknown> = { ...value };
  const faults: ErrorDetail[] = [];
  for (const [property, { isValid, message }] of freeFormRules(dto)) {
    if (ruled[property] === undefined) continue;
    if (!isValid(ruled[property])) faults.push({ field: property, message: `${property} ${message}` });
    freeForm[property] = ruled[property];
    delete ruled[property];
  }
  const { details, isExcessive } = checkStructure(ruled);
  return { ruled, freeForm, details: [...faults, ...details], isExcessive };
}

/** Inherited properties of objects, and what Nest's pipe strips before it looks for unknown fields. */
const isReserved = (name: string) => name in Object.prototype || name === 'prototype';

/**
 * Checks a request's size and names before class-validator, which would take seconds for a body of many thousand
 * values. Fields with reserved names (`__proto__`, `toString`) are refused as unknown here, because class-transformer
 * drops some of them silently and class-validator treats others as known.
 * @returns `isExcessive` if the request exceeds the bounds and must not be processed further
 */
function checkStructure(request: object): { details: ErrorDetail[]; isExcessive: boolean } {
  const details: ErrorDetail[] = [];
  let values = 0;
  const visit = (value: unknown, field: string, depth: number): ErrorDetail | undefined => {
    if (typeof value !== 'object' || value === null) return undefined;
    if (depth > MAX_DEPTH) return { field, message: `must not be more than ${MAX_DEPTH} levels deep` };
    if (Array.isArray(value) && value.length > MAX_LIST_LENGTH) {
      return { field, message: `${field} must not have more than ${MAX_LIST_LENGTH} entries` };
    }
    for (const [name, child] of Object.entries(value)) {
      const path = join(field, name);
      if (isReserved(name)) details.push({ field: path, message: `property ${name} should not exist` });
      if ((values += 1) > MAX_VALUES) return { field, message: `must not have more than ${MAX_VALUES} values` };
      const excess = visit(child, path, depth + 1);
      if (excess) return excess;
    }
    return undefined;
  };
  const excess = visit(request, '', 1);
  return excess ? { details: [excess], isExcessive: true } : { details, isExcessive: false };
}

/** If one of these fails, the other faults of the value do not help. */
const TYPE_CONSTRAINTS = ['isString', 'isInt', 'isArray', 'isObject'];

function toDetails(error: ValidationError, parent = ''): ErrorDetail[] {
  const field = join(parent, error.property);
  const { constraints = {} } = error;
  const ofType = TYPE_CONSTRAINTS.flatMap((name) => constraints[name] ?? []);
  const messages = (ofType.length > 0 ? ofType : Object.values(constraints)).map((message) => ({ field, message }));
  return [...messages, ...(error.children ?? []).flatMap((child) => toDetails(child, field))];
}

/** Joins a path in the guide's notation: `items[0].sku`. */
function join(parent: string, name: string): string {
  if (parent === '') return name;
  return /^\d+$/.test(name) ? `${parent}[${name}]` : `${parent}.${name}`;
}
