import { hash } from 'node:crypto';
import { configure } from 'safe-stable-stringify';

/** Matches RFC 8785 for all values that JSON can express. */
const canonicalJson = configure({ strict: true });

/**
 * SHA-256 over the idempotency key and the request in canonical JSON (RFC 8785). Equal for requests that mean the same,
 * whatever their key order, white space or notation of numbers. The key acts as a salt: it is not stored, so the
 * request cannot be guessed from the digest. (An HMAC is not needed, because nothing is gained by extending a digest.)
 * @param key must contain no line breaks
 * @param request the validated request, without its idempotency key
 */
export function fingerprint(key: string, request: object): Buffer {
  return sha256(`${key}\n${canonicalJson(request) ?? ''}`);
}

/** What is stored of an idempotency key: its SHA-256. */
export function keyDigest(key: string): Buffer {
  return sha256(key);
}

const sha256 = (text: string) => hash('sha256', text, 'buffer');
