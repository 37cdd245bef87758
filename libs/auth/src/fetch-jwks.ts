import type { JWK } from 'jose';
import { z } from 'zod';

/** Key sets have a few kilobytes. Anything much larger is none, and must not fill the memory. */
const MAX_BYTES = 256 * 1024;
/** A token without `kid` is tried with every key of its type, so each key adds to the cost of an invalid token. */
const MAX_KEYS = 100;

const discoveryDocument = z.object({ issuer: z.string(), jwks_uri: z.url() });
const keySet = z.object({ keys: z.array(z.looseObject({ kty: z.string() })).max(MAX_KEYS) });

/**
 * Fetches the provider's current keys (OpenID Connect Discovery 1.0 section 4, RFC 7517 section 5). Runs discovery each
 * time, because a provider may move its keys.
 * @throws {Error} for anything but a key set: another status, a redirect, too large, not JSON, another shape or issuer
 */
export async function fetchJwks(issuer: string, signal: AbortSignal): Promise<JWK[]> {
  const discovery = `${issuer.replace(/\/$/, '')}/.well-known/openid-configuration`;
  const document = discoveryDocument.parse(await fetchJson(discovery, signal));
  if (document.issuer !== issuer) {
    const named = document.issuer.slice(0, 200);
    throw new Error(`${discovery} names the issuer ${named}: OIDC_ISSUER must be the same, to the character`);
  }
  const protocols = issuer.startsWith('https:') ? ['https:'] : ['https:', 'http:'];
  if (!protocols.includes(new URL(document.jwks_uri).protocol))
    throw new Error(`${discovery} names a jwks_uri without TLS, but the issuer has TLS`);
  return keySet.parse(await fetchJson(document.jwks_uri, signal)).keys;
}

async function fetchJson(url: string, signal: AbortSignal): Promise<unknown> {
  const response = await fetch(url, { signal, redirect: 'error', headers: { accept: 'application/json' } });
  if (response.status !== 200 || !response.body) {
    await response.body?.cancel();
    throw new Error(`${url} answered ${response.status}`);
  }
  const chunks: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of response.body as AsyncIterable<Uint8Array>) {
    size += chunk.byteLength;
    if (size > MAX_BYTES) throw new Error(`${url} answered with more than ${MAX_BYTES} bytes`);
    chunks.push(chunk);
  }
  return JSON.parse(Buffer.concat(chunks).toString('utf8'));
}
