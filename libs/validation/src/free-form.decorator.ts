import { Allow } from 'class-validator';

/** What a free-form value must be like. */
export interface FreeFormRule {
  readonly isValid: (value: unknown) => boolean;
  /** Follows the name of the property, as in `metadata must be an object`. */
  readonly message: string;
}

const RULES = 'free-form-rules';

/**
 * An optional property whose JSON belongs to the client: it is validated by this rule alone, and kept as it was sent.
 * class-transformer would copy it, drop some of its keys, and fail on others (`constructor`).
 */
export function FreeForm(rule: FreeFormRule): PropertyDecorator {
  return (prototype, property) => {
    Allow()(prototype, property); // class-validator refuses classes of which it knows nothing
    const rules = freeFormRules(prototype.constructor);
    Reflect.defineMetadata(RULES, new Map(rules).set(String(property), rule), prototype.constructor);
  };
}

export function freeFormRules(dto: object | undefined): ReadonlyMap<string, FreeFormRule> {
  const rules = dto && (Reflect.getMetadata(RULES, dto) as ReadonlyMap<string, FreeFormRule> | undefined);
  return rules ?? new Map<string, FreeFormRule>();
}
