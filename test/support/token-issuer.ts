import { generateKeyPairSync, type KeyObject } from 'node:crypto';
import http from 'node:http';
import { exportJWK, type JWK, type JWTPayload, SignJWT } from 'jose';
import { listen } from '../../apps/sandbox/src/listen';

/** An issuer whose tokens a test shapes as it likes: discovery and keys over HTTP, signing by hand. */
export class TokenIssuer {
  /** Requests for the keys so far. */
  jwksRequests = 0;
  /** While true every request is answered with 503. */
  isDown = false;
  /** Answers in place of the issuer, by path; a handler that does nothing leaves the request hanging. */
  readonly answers: Record<string, ((res: http.ServerResponse) => void) | undefined> = {};
  /** Where discovery says that the keys are. */
  keysPath = '/keys';
  /** What is published and signed with, by key id. A test may add, replace and delete. */
  readonly keys: Record<string, { privateKey: KeyObject; publicKey: KeyObject }> = {
    RS256: generateKeyPairSync('rsa', { modulusLength: 2048 }),
    PS256: generateKeyPairSync('rsa', { modulusLength: 2048 }),
    RS512: generateKeyPairSync('rsa', { modulusLength: 2048 }),
    ES256: generateKeyPairSync('ec', { namedCurve: 'P-256' }),
    EdDSA: generateKeyPairSync('ed25519'),
  };

  private constructor(
    private server: Awaited<ReturnType<typeof listen>>,
    private readonly withKeyIds: boolean,
  ) {}

  static async start({ withKeyIds = true } = {}): Promise<TokenIssuer> {
    const server = http.createServer();
    const issuer = new TokenIssuer(await listen(server, 0), withKeyIds);
    server.on('request', (req, res) => void issuer.answer(req.url ?? '', res));
    return issuer;
  }

  get url(): string {
    return this.server.url;
  }

  stop(): Promise<void> {
    return this.server.stop();
  }

  /** @param claims added to those of a good token; undefined takes one away */
  async sign(
    alg: string,
    claims: JWTPayload = {},
    { kid = alg, key, typ = 'at+jwt' }: { kid?: string; key?: KeyObject | Uint8Array; typ?: string | null } = {},
  ) {
    const now = Math.floor(Date.now() / 1_000);
    const good = {
      iss: this.url,
      aud: 'orders',
      client_id: 'a-client',
      scope: 'orders:read orders:write',
      iat: now,
      exp: now + 600,
    };
    const signingKey = key ?? (this.keys[kid] ?? this.keys[alg])?.privateKey;
    if (!signingKey) throw new Error(`no key for ${alg}`);
    const header = { alg, ...(typ !== null && { typ }), ...(this.withKeyIds && { kid }) };
    return new SignJWT({ ...good, ...claims }).setProtectedHeader(header).sign(signingKey);
  }

  private async answer(url: string, res: http.ServerResponse): Promise<void> {
    if (url === this.keysPath) this.jwksRequests += 1;
    const answer = this.answers[url];
    if (answer) {
      answer(res);
      return;
    }
    if (this.isDown) {
      res.writeHead(503).end();
      return;
    }
    const discovery = { issuer: this.url, jwks_uri: `${this.url}${this.keysPath}` };
    const body = url === this.keysPath ? { keys: await this.jwks() } : discovery;
    res.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(body));
  }

  private jwks(): Promise<JWK[]> {
    return Promise.all(
      Object.entries(this.keys).map(async ([alg, { publicKey }]) => ({
        ...(await exportJWK(publicKey)),
        use: 'sig',
        ...(this.withKeyIds && { kid: alg }),
      })),
    );
  }
}
