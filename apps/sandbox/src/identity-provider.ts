import { constants, generateKeyPairSync, randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import http, { type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import https from 'node:https';
import { Readable } from 'node:stream';
import type { TLSSocket } from 'node:tls';
import Provider, { type Configuration, type JWK, type KoaContextWithOIDC } from 'oidc-provider';
import { certificateFiles } from './certificates';
import { listen, type RunningServer } from './listen';
import { AUDIENCE, CLIENT_SECRET, CLIENTS, TENANT_CLAIM } from './settings';

const TOKEN_TTL_S = 3_600;

/** Where clients authenticate with the certificates of `npm run certs`. */
interface MtlsListener {
  readonly port: number;
  readonly certsDir: string;
}

/** A certified OpenID provider for machine clients only: client credentials, and JWT access tokens (RFC 9068). */
export async function startIdentityProvider(
  port: number,
  mtls?: MtlsListener,
): Promise<RunningServer & { readonly mtlsUrl?: string }> {
  const server = http.createServer();
  const running = await listen(server, port);
  const signingKey = generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey;
  const jwk: JWK = { ...signingKey.export({ format: 'jwk' }), kid: randomUUID(), use: 'sig', alg: 'RS256' };
  if (!mtls) {
    serve(server, running.url, { ...configurationFor(jwk), clients: clientsWith(SECRET) });
    return running;
  }
  const tlsServer = https.createServer(tlsOptions(mtls.certsDir));
  const runningTls = await listen(tlsServer, mtls.port).catch(async (error: unknown) => {
    await running.stop();
    throw error;
  });
  // RFC 8705 section 5: the same issuer has another token endpoint for clients with a certificate.
  const discovery = {
    mtls_endpoint_aliases: { token_endpoint: `${runningTls.url}/token` },
    tls_client_certificate_bound_access_tokens: true,
  };
  serve(server, running.url, { ...configurationFor(jwk), clients: clientsWith(SECRET), discovery });
  serve(tlsServer, running.url, withCertificates(configurationFor(jwk)));
  return {
    url: running.url,
    mtlsUrl: runningTls.url,
    stop: async () => {
      await Promise.all([running.stop(), runningTls.stop()]);
    },
  };
}

const SECRET = () => ({ client_secret: CLIENT_SECRET });

/** Clients authenticate by certificate, and their tokens are bound to it (RFC 8705 sections 2.1 and 3). */
const CERTIFICATE = (id: string) => ({
  token_endpoint_auth_method: 'tls_client_auth' as const,
  tls_client_auth_subject_dn: `CN=${id}`,
  tls_client_certificate_bound_access_tokens: true,
});

const clientsWith = (credential: (id: string) => object) =>
  CLIENTS.map(({ id, scope }) => ({
    client_id: id,
    grant_types: ['client_credentials'],
    redirect_uris: [],
    response_types: [],
    scope,
    ...credential(id),
  }));

function tlsOptions(certsDir: string): https.ServerOptions {
  const server = certificateFiles(certsDir, 'server');
  return {
    cert: readFileSync(server.cert),
    key: readFileSync(server.key),
    ca: readFileSync(certificateFiles(certsDir, 'ca').cert),
    requestCert: true,
    rejectUnauthorized: false, // refused with an OAuth 2.0 error instead of a failed handshake
    secureOptions: constants.SSL_OP_NO_TICKET,
  };
}

function withCertificates(configuration: Configuration): Configuration {
  const socketOf = (ctx: KoaContextWithOIDC) => ctx.req.socket as TLSSocket;
  return {
    ...configuration,
    clients: clientsWith(CERTIFICATE),
    clientAuthMethods: ['tls_client_auth'],
    features: {
      ...configuration.features,
      mTLS: {
        enabled: true,
        tlsClientAuth: true,
        certificateBoundAccessTokens: true,
        getCertificate: (ctx) => socketOf(ctx).getPeerX509Certificate()?.toString(),
        certificateAuthorized: (ctx) => socketOf(ctx).authorized,
        certificateSubjectMatches: (ctx, _property, expected) =>
          socketOf(ctx).getPeerX509Certificate()?.subject === expected,
      },
    },
  };
}

function configurationFor(signingKey: JWK): Configuration {
  const scopes = [...new Set(CLIENTS.flatMap(({ scope }) => scope.split(' ')))];
  return {
    jwks: { keys: [signingKey] },
    adapter: NullAdapter,
    ttl: { ClientCredentials: TOKEN_TTL_S },
    scopes,
    responseTypes: [],
    cookies: { keys: [randomUUID()] },
    extraTokenClaims: (_ctx, token) => ({
      [TENANT_CLAIM]: CLIENTS.find(({ id }) => id === token.clientId)?.tenant,
    }),
    features: {
      devInteractions: { enabled: false },
      clientCredentials: { enabled: true },
      resourceIndicators: {
        enabled: true,
        defaultResource: () => AUDIENCE,
        useGrantedResource: () => true,
        getResourceServerInfo: () => ({
          scope: scopes.join(' '),
          audience: AUDIENCE,
          accessTokenTTL: TOKEN_TTL_S,
          accessTokenFormat: 'jwt',
          jwt: { sign: { alg: 'RS256' } },
        }),
      },
    },
  };
}

function serve(server: Server | https.Server, issuer: string, configuration: Configuration): void {
  const handle = new Provider(issuer, configuration).callback();
  server.on('request', (req: IncomingMessage, res: ServerResponse) => {
    withAllScopesByDefault(req).then(
      (request) => handle(request, res),
      () => res.writeHead(400).end(),
    );
  });
}

/** Tokens are JWTs and clients are configured, so there is nothing to keep. */
class NullAdapter {
  async upsert(): Promise<void> {}
  async find(): Promise<undefined> {}
  async findByUid(): Promise<undefined> {}
  async findByUserCode(): Promise<undefined> {}
  async destroy(): Promise<void> {}
  async consume(): Promise<void> {}
  async revokeByGrantId(): Promise<void> {}
}

/** A client that asks for no scope gets all of its own, as from most providers (RFC 6749 section 3.3). */
async function withAllScopesByDefault(req: IncomingMessage): Promise<IncomingMessage> {
  if (req.method !== 'POST' || req.url !== '/token') return req;
  const form = new URLSearchParams(Buffer.concat(await req.toArray()).toString());
  const basic = Buffer.from(req.headers.authorization?.replace(/^Basic /i, '') ?? '', 'base64').toString();
  const clientId = form.get('client_id') ?? decodeURIComponent(basic.split(':')[0] ?? '');
  const client = CLIENTS.find(({ id }) => id === clientId);
  if (client && !form.get('scope')) form.set('scope', client.scope);
  const body = Buffer.from(form.toString());
  const { method, url, socket, httpVersion, httpVersionMajor } = req;
  const headers = { ...req.headers, 'content-length': String(body.length) };
  const replay = Object.assign(Readable.from([body]), { method, url, socket, httpVersion, httpVersionMajor, headers });
  return replay as unknown as IncomingMessage;
}
