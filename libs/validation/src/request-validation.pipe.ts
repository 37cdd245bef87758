import { type ArgumentMetadata, Injectable, type ValidationError, ValidationPipe } from '@nestjs/common';
import { type ErrorDetail, ServiceError } from '@platform/errors';
import { DtoRules, Excerpt } from './dto-rules';
import { freeFormRules } from './free-form.decorator';
import { isReserved, joinPath } from './paths';
import { refusalOf } from './refused-as.decorator';
import { isJsonObject } from './validators';

/** Larger requests are not validated at all; every DTO asks for less. */
const MAX_DEPTH = 16;
const MAX_LIST_LENGTH = 1_000;
const MAX_VALUES = 5_000;

class InvalidRequest extends Error {
  constructor(readonly errors: ValidationError[]) {
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
      exceptionFactory: (errors) => new InvalidRequest(errors),
    });
  }

  override async transform(value: unknown, metadata: ArgumentMetadata): Promise<unknown> {
    if (!this.toValidate(metadata)) return value;
    const rules = DtoRules.of(metadata.metatype);
    const admitted = rules?.admit(value);
    if (admitted) return admitted;
    // Some generated clients send `null` when they have no body.
    const { ruled, freeForm, details, isExcessive } = separateFreeForm(value ?? {}, metadata.metatype, rules);
    if (!isExcessive) {
      const excerpt = new Excerpt();
      const part = rules?.partOf(ruled, excerpt) as object | undefined;
      let found = part && (await this.validateRuled(part, metadata, excerpt));
      // If the excerpt shows no fault, the whole may still have one.
      if (!found || (!Array.isArray(found) && details.length === 0)) found = await this.validateRuled(ruled, metadata);
      if (Array.isArray(found)) details.push(...(found as ErrorDetail[]));
      else if (details.length === 0) return Object.assign(found, freeForm);
    }
    const { code, message } = refusalOf(metadata.metatype);
    throw new ServiceError(code, message, { details });
  }

  /** @returns an instance of the DTO, or the faults */
  private async validateRuled(
    value: object,
    metadata: ArgumentMetadata,
    { places } = new Excerpt(),
  ): Promise<object | ErrorDetail[]> {
    try {
      return (await super.transform(value, metadata)) as object;
    } catch (error) {
      if (error instanceof InvalidRequest) return error.errors.flatMap((fault) => toDetails(fault, places));
      throw error;
    }
  }
}

/** Separates the free-form properties, which are validated here, from those that class-validator validates. */
function separateFreeForm(value: unknown, dto: object | undefined, rules: DtoRules | undefined) {
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
  const tooLong = rules?.tooLong(ruled);
  const { details, isExcessive } = tooLong ? { details: [tooLong], isExcessive: true } : checkStructure(ruled);
  return { ruled, freeForm, details: [...faults, ...details], isExcessive };
}

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
      const path = joinPath(field, name);
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

function toDetails(error: ValidationError, places: Excerpt['places'], parent = ''): ErrorDetail[] {
  const field = joinPath(parent, String(places.get(parent)?.[Number(error.property)] ?? error.property));
  const { constraints = {} } = error;
  const ofType = TYPE_CONSTRAINTS.flatMap((name) => constraints[name] ?? []);
  const messages = (ofType.length > 0 ? ofType : Object.values(constraints)).map((message) => ({ field, message }));
  return [...messages, ...(error.children ?? []).flatMap((child) => toDetails(child, places, field))];
}
