import type { ServerOptions } from 'node:https';
import type { Config } from '@platform/config';

type HttpsOptions = Pick<ServerOptions, 'requestCert' | 'rejectUnauthorized' | 'handshakeTimeout'>;

/** A connection that does not get through its handshake is cut off after this time. */
const HANDSHAKE_TIMEOUT_MS = 10_000;

/**
 * How Nest makes the server where the service terminates TLS itself; undefined where it does not. The certificate comes
 * from {@link TlsFiles}. A client without a good certificate gets through the handshake, so that it is refused in the
 * shape of all other errors and probes need none.
 */
export function httpsOptions({ tls, mtls }: Config): HttpsOptions | undefined {
  if (!tls) return undefined;
  // Without a client CA the authorities of the web would be asked whom to trust.
  const requestCert = mtls.mode !== 'off' && mtls.clientCaFile !== undefined;
  return { requestCert, rejectUnauthorized: false, handshakeTimeout: HANDSHAKE_TIMEOUT_MS };
}
