import type { ServerOptions } from 'node:https';
import type { Config } from '@platform/config';

type HttpsOptions = Pick<ServerOptions, 'requestCert' | 'rejectUnauthorized' | 'handshakeTimeout'>;

/** Connections that do not complete the TLS handshake within this time are closed. */
const HANDSHAKE_TIMEOUT_MS = 10_000;

/**
 * Server options if the service terminates TLS itself, else undefined. The certificate comes from {@link TlsFiles}.
 * Clients without a valid certificate complete the handshake all the same: they are refused later in the shape of all
 * other errors, and probes need no certificate.
 */
export function httpsOptions({ tls, mtls }: Config): HttpsOptions | undefined {
  if (!tls) return undefined;
  // Without a client CA Node would check client certificates against the public root CAs.
  const requestCert = mtls.mode !== 'off' && mtls.clientCaFile !== undefined;
  return { requestCert, rejectUnauthorized: false, handshakeTimeout: HANDSHAKE_TIMEOUT_MS };
}
