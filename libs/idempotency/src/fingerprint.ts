import { hash } from 'node:crypto';
import { configure } from 'safe-stable-stringify';

/** As RFC 8785 for what JSON can say. */
const canonicalJson = configure({ strict: true });

/**
 * SHA-256 over the idempotency key and the request in canonical JSON (RFC 8785): equal for requests that mean the same,
 * whatever their key order, white space or spelling of numbers. The key is not kept, so nobody who reads the digest can
 * find out by trying what was in the request. (Nobody gains from extending a digest, so it need not be an HMAC.)
 * @param key without line breaks
 * @param request the validated request, without its idempotency key
 */
export function fingerprint(key: string, request: object): Buffer {
  return sha256(`${key}\n${canonicalJson(request) ?? ''}`);
}

/** What is kept of an idempotency key: SHA-256. */
export function keyDigest(key: string): Buffer {
  return sha256(key);
}

const sha256 = (text: string) => hash('sha256', text, 'buffer');
