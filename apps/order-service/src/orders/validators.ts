import { type FreeFormRule, isJsonObject, isStorable, validator } from '@platform/validation';
import { minorDigits } from './currencies';
import { fitsCurrency } from './order-total';

const METADATA_BYTES = 16 * 1024;
const METADATA_DEPTH = 5;

export const IsCurrency = validator(
  'isCurrency',
  'must be an ISO 4217 currency code',
  (value) => typeof value === 'string' && minorDigits(value) !== undefined,
);

/** For a decimal string next to a `currency`. Accepts any if the currency is unknown, which is reported by itself. */
export const FitsCurrency = validator(
  'fitsCurrency',
  'must have no decimals or exactly as many as ISO 4217 gives the currency',
  (value, { currency }: { currency?: unknown }) =>
    typeof value !== 'string' ||
    typeof currency !== 'string' ||
    minorDigits(currency) === undefined ||
    fitsCurrency(value, currency),
);

/** A JSON object of at most 16 KiB and 5 levels, itself included, whose values the database stores unchanged. */
export const METADATA_RULE: FreeFormRule = {
  message: `must be an object of at most 16 KiB as JSON, at most ${METADATA_DEPTH} levels deep, without NUL, lone surrogates or integers from 2^53`,
  isValid: (value) =>
    isJsonObject(value) &&
    isStorableJson(value, METADATA_DEPTH, { left: METADATA_BYTES }) &&
    bytesOf(value) <= METADATA_BYTES,
};

/** Size of the JSON as PostgreSQL writes it: without exponents, so that `5e-324` takes 326 bytes. */
function bytesOf(value: object): number {
  const json = JSON.stringify(value);
  return Buffer.byteLength(/\de-\d/.test(json) ? JSON.stringify(value, withoutExponent) : json);
}

/** Replaces a number with a negative exponent by a string whose JSON is as long as the number without the exponent. */
function withoutExponent(_key: string, value: unknown): unknown {
  if (typeof value !== 'number') return value;
  const [mantissa = '', exponent] = String(value).split('e-');
  const digits = mantissa.replace('.', '');
  return exponent === undefined ? value : digits.padStart(digits.length + Number(exponent) - 1, '0');
}

/** @param budget bytes; each value and each character takes at least one, and the check stops when none are left */
function isStorableJson(value: unknown, levels: number, budget: { left: number }): boolean {
  budget.left -= typeof value === 'string' ? value.length + 1 : 1;
  if (budget.left < 0) return false;
  if (typeof value === 'string') return isStorable(value);
  // JSON.parse has rounded larger integers already.
  if (typeof value === 'number') return Number.isInteger(value) ? Number.isSafeInteger(value) : Number.isFinite(value);
  if (typeof value !== 'object' || value === null) return true;
  if (levels === 0) return false;
  if (Array.isArray(value)) return value.every((child) => isStorableJson(child, levels - 1, budget));
  return Object.keys(value).every((key) => {
    budget.left -= key.length;
    return isStorable(key) && isStorableJson((value as Record<string, unknown>)[key], levels - 1, budget);
  });
}
