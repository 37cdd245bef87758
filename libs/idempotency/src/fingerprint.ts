import { hash } from 'node:crypto';
import canonicalize from 'canonicalize';

/**
 * SHA-256 over the idempotency key and the request in canonical JSON (RFC 8785): equal for requests that mean the same,
 * whatever their key order, white space or spelling of numbers. The key is not kept, so nobody who reads the digest can
 * find out by trying what was in the request. (Nobody gains from extending a digest, so it need not be an HMAC.)
 * @param key without line breaks
 * @param request the validated request, without its idempotency key
 * @returns in PostgreSQL's text form of bytes
 */
export function fingerprint(key: string, request: object): string {
  return bytea(`${key}\n${canonicalize(request) ?? ''}`);
}

/** What is kept of an idempotency key: SHA-256, in PostgreSQL's text form of bytes. */
export function keyDigest(key: string): string {
  return bytea(key);
}

const bytea = (text: string) => `\\x${hash('sha256', text)}`;
