import { createHash } from 'node:crypto';
import canonicalize from 'canonicalize';

/**
 * SHA-256 over the request in canonical JSON (RFC 8785): equal for requests that mean the same, whatever their key
 * order, white space or spelling of numbers.
 * @param request the validated request, without its idempotency key
 */
export function fingerprint(request: object): Buffer {
  return createHash('sha256')
    .update(canonicalize(request) ?? '')
    .digest();
}
