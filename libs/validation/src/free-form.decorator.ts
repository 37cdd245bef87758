import { Allow } from 'class-validator';

/** The rule for a free-form value. */
export interface FreeFormRule {
  readonly isValid: (value: unknown) => boolean;
  /** Appended to the property's name, as in `metadata must be an object`. */
  readonly message: string;
}

const RULES = 'free-form-rules';

/**
 * An optional property with arbitrary JSON of the client: validated by this rule only, and kept as it was sent.
 * class-transformer would copy it, drop some keys and fail on others (`constructor`).
 */
export function FreeForm(rule: FreeFormRule): PropertyDecorator {
  return (prototype, property) => {
    Allow()(prototype, property); // class-validator refuses properties and classes that have no decorator
    const rules = freeFormRules(prototype.constructor);
    Reflect.defineMetadata(RULES, new Map(rules).set(String(property), rule), prototype.constructor);
  };
}

export function freeFormRules(dto: object | undefined): ReadonlyMap<string, FreeFormRule> {
  const rules = dto && (Reflect.getMetadata(RULES, dto) as ReadonlyMap<string, FreeFormRule> | undefined);
  return rules ?? new Map<string, FreeFormRule>();
}
