import { createHash, createHmac } from 'node:crypto';
import canonicalize from 'canonicalize';

/**
 * A MAC (HMAC-SHA-256) over the request in canonical JSON (RFC 8785): equal for requests that mean the same, whatever
 * their key order, white space or spelling of numbers. It is keyed with the idempotency key, which is not kept, so that
 * nobody can find out by trying what was in the request.
 * @param request the validated request, without its idempotency key
 */
export function fingerprint(key: string, request: object): Buffer {
  return createHmac('sha256', key)
    .update(canonicalize(request) ?? '')
    .digest();
}

/** What is kept of an idempotency key: SHA-256. */
export function keyDigest(key: string): Buffer {
  return createHash('sha256').update(key).digest();
}
