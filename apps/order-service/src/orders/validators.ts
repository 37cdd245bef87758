import type { FreeFormRule } from '@platform/errors';
import { ValidateBy, ValidateIf, type ValidationArguments, type ValidationOptions } from 'class-validator';
import { minorDigits } from './currencies';
import { fitsCurrency } from './order-total';

const METADATA_BYTES = 16 * 1024;
const METADATA_DEPTH = 5;

const validator = (name: string, message: string, validate: (value: unknown, object: object) => boolean) => {
  return (options?: ValidationOptions) =>
    ValidateBy(
      {
        name,
        validator: {
          validate: (value, args?: ValidationArguments) => validate(value, args?.object ?? {}),
          defaultMessage: (args) => `${args?.property} ${message}`,
        },
      },
      options,
    );
};

/** Optional means absent: `null` is a value, and not one of the type asked for. */
export const IsAbsentOr = () => ValidateIf((_, value) => value !== undefined);

/** PostgreSQL keeps no NUL, and UTF-8 has no lone surrogates. */
const isStorable = (text: string) => !text.includes('\0') && text.isWellFormed();

/** On a string: the database keeps it as it is. */
export const IsStorableText = validator(
  'isStorableText',
  'must not contain NUL or lone surrogates',
  (value) => typeof value !== 'string' || isStorable(value),
);

export const IsCurrency = validator(
  'isCurrency',
  'must be an ISO 4217 currency code',
  (value) => typeof value === 'string' && minorDigits(value) !== undefined,
);

/** On a decimal string beside a `currency`. Says nothing where the currency is unknown: that is a fault of its own. */
export const FitsCurrency = validator(
  'fitsCurrency',
  'must have no decimals or exactly as many as ISO 4217 gives the currency',
  (value, { currency }: { currency?: unknown }) =>
    typeof value !== 'string' ||
    typeof currency !== 'string' ||
    minorDigits(currency) === undefined ||
    fitsCurrency(value, currency),
);

const TIMESTAMP = /^(\d{4}-\d\d-\d\d)T([01]\d|2[0-3]):[0-5]\d:[0-5]\d(\.\d+)?(Z|[+-]([01]\d|2[0-3]):[0-5]\d)$/;

/** An instant as RFC 3339 writes it, on a day that the calendar has. */
export const IsTimestamp = validator('isTimestamp', 'must be an RFC 3339 timestamp', (value) => {
  const day = typeof value === 'string' ? TIMESTAMP.exec(value)?.[1] : undefined;
  if (day === undefined) return false;
  const date = new Date(`${day}T00:00:00Z`);
  // JavaScript takes 30 February for 2 March.
  return !Number.isNaN(date.getTime()) && date.toISOString().startsWith(day);
});

/** A JSON object of at most 16 KiB and 5 levels, itself included, that the database keeps as it is. */
export const METADATA_RULE: FreeFormRule = {
  message: `must be an object of at most 16 KiB as JSON, at most ${METADATA_DEPTH} levels deep, without NUL, lone surrogates or integers beyond 2^53`,
  isValid: (value) =>
    typeof value === 'object' &&
    value !== null &&
    !Array.isArray(value) &&
    isStorableJson(value, METADATA_DEPTH) &&
    Buffer.byteLength(JSON.stringify(value)) <= METADATA_BYTES,
};

function isStorableJson(value: unknown, levels: number): boolean {
  if (typeof value === 'string') return isStorable(value);
  // JSON.parse has rounded larger integers already.
  if (typeof value === 'number') return Number.isInteger(value) ? Number.isSafeInteger(value) : Number.isFinite(value);
  if (typeof value !== 'object' || value === null) return true;
  if (levels === 0) return false;
  return Object.entries(value).every(([key, child]) => isStorable(key) && isStorableJson(child, levels - 1));
}
