import { ServiceError } from '@platform/errors';
import { type Refusal } from '@platform/validation';

/** 10 to 255 visible ASCII characters. */
const KEY = /^[\x21-\x7e]{10,255}$/;
/** The same as an OpenAPI schema. */
export const IDEMPOTENCY_KEY_SCHEMA = {
  type: 'string',
  minLength: 10,
  maxLength: 255,
  pattern: '^[\\x21-\\x7e]+$',
} as const;

/**
 * The idempotency key of a request: from the `Idempotency-Key` header, bare or quoted as in
 * draft-ietf-httpapi-idempotency-key-header-07 section 2.1, or from the body.
 * @param refusal how the route reports faults: the error if the key is malformed, or if header and body differ
 * @throws {ServiceError} IDEMPOTENCY_KEY_REQUIRED, or the refusal
 */
export function idempotencyKey(header: string | undefined, field: string | undefined, refusal: Refusal): string {
  const fromHeader = header === undefined ? undefined : unquote(header.trim());
  if (fromHeader !== undefined && field !== undefined && fromHeader !== field) {
    throw invalid(refusal, 'Idempotency-Key', 'Idempotency-Key and idempotencyKey must be the same');
  }
  const key = fromHeader ?? field;
  if (key === undefined) {
    const message = 'An idempotency key is required: the Idempotency-Key header or the field idempotencyKey';
    throw new ServiceError('IDEMPOTENCY_KEY_REQUIRED', message);
  }
  if (!KEY.test(key)) {
    const name = fromHeader === undefined ? 'idempotencyKey' : 'Idempotency-Key';
    throw invalid(refusal, name, `${name} must have 10 to 255 visible ASCII characters`);
  }
  return key;
}

/** An RFC 8941 string: in double quotes, with `\"` and `\\` escaped. */
function unquote(value: string): string {
  const quoted = /^"((?:[^"\\]|\\["\\])*)"$/.exec(value);
  return quoted ? (quoted[1] ?? '').replace(/\\(["\\])/g, '$1') : value;
}

function invalid(refusal: Refusal, field: string, message: string): ServiceError {
  return new ServiceError(refusal.code, refusal.message, { details: [{ field, message }] });
}
