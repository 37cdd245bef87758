import { generateKeyPairSync, randomUUID } from 'node:crypto';
import http, { type IncomingMessage, type Server } from 'node:http';
import { Readable } from 'node:stream';
import Provider, { type Configuration } from 'oidc-provider';
import { listen, type RunningServer } from './listen';
import { AUDIENCE, CLIENT_SECRET, CLIENTS, TENANT_CLAIM } from './settings';

const TOKEN_TTL_S = 3_600;

/** A certified OpenID provider for machine clients only: client credentials, and JWT access tokens (RFC 9068). */
export async function startIdentityProvider(port: number): Promise<RunningServer> {
  const server = http.createServer();
  const running = await listen(server, port);
  serve(server, running.url);
  return running;
}

function serve(server: Server, issuer: string): void {
  const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
  const scopes = [...new Set(CLIENTS.flatMap(({ scope }) => scope.split(' ')))];
  const configuration: Configuration = {
    jwks: { keys: [{ ...privateKey.export({ format: 'jwk' }), kid: randomUUID(), use: 'sig', alg: 'RS256' }] },
    adapter: KeepNothing,
    ttl: { ClientCredentials: TOKEN_TTL_S },
    scopes,
    responseTypes: [],
    clients: CLIENTS.map(({ id, scope }) => ({
      client_id: id,
      client_secret: CLIENT_SECRET,
      grant_types: ['client_credentials'],
      redirect_uris: [],
      response_types: [],
      scope,
    })),
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
  const provider = new Provider(issuer, configuration);
  const handle = provider.callback();
  server.on('request', (req, res) => {
    withAllScopesByDefault(req).then(
      (request) => handle(request, res),
      () => res.writeHead(400).end(),
    );
  });
}

/** Tokens are JWTs and clients are configured, so there is nothing to keep. */
class KeepNothing {
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
