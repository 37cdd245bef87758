import { execFile } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { promisify } from 'node:util';
import { listen, type RunningServer } from '../../apps/sandbox/src/listen';
import { CLIENT_SECRET } from '../../apps/sandbox/src/settings';
import { pieces } from '../support/pieces';
import { startService, type TestService } from '../support/service';

type Fate = (req: IncomingMessage, body: string, res: ServerResponse) => unknown;

describe('docs/create-order.mjs', () => {
  let service: TestService;
  let way: RunningServer;
  let fates: Fate[] = [];
  let sent = 0;

  const forward = async ({ headers }: IncomingMessage, body: string, token = headers.authorization ?? '') =>
    fetch(`${service.url}/v1/orders`, {
      method: 'POST',
      headers: { authorization: token, 'content-type': 'application/json' },
      body,
    });
  const deliver: Fate = async (req, body, res) => {
    const answer = await forward(req, body);
    res.writeHead(answer.status, { 'content-type': 'application/json' }).end(await answer.text());
  };

  beforeAll(async () => {
    service = await startService();
    const server = createServer((req, res) => {
      let body = '';
      req.on('data', (chunk: Buffer) => (body += chunk.toString()));
      req.on('end', () => {
        sent += 1;
        void (fates.shift() ?? deliver)(req, body, res);
      });
    });
    way = await listen(server, 0);
  });
  beforeEach(() => {
    sent = 0;
  });
  afterAll(async () => {
    await way.stop();
    await service.stop();
  });

  const place = (key: string, secret = CLIENT_SECRET, tokenUrl = `${pieces().issuer}/token`) => {
    const env = {
      PATH: process.env['PATH'],
      ORDERS_URL: way.url,
      TOKEN_URL: tokenUrl,
      CLIENT_ID: 'order-orchestrator',
      CLIENT_SECRET: secret,
    };
    return promisify(execFile)(process.execPath, ['docs/create-order.mjs', key], { env });
  };

  it('makes one order, whatever becomes of its requests and their answers', async () => {
    fates = [
      (req) => req.socket.destroy(),
      async (req, body, res) => {
        expect((await forward(req, body)).status).toBe(201);
        res.destroy();
      },
      (_req, _body, res) => res.writeHead(503, { 'retry-after': '1' }).end('{}'),
      (_req, _body, res) => res.writeHead(503, { 'retry-after': new Date(Date.now() + 1_000).toUTCString() }).end('{}'),
      (_req, _body, res) => res.writeHead(502, { 'content-type': 'text/html' }).end('<html>'),
      async (req, body, res) => {
        const refusal = await forward(req, body, 'Bearer withdrawn');
        res.writeHead(refusal.status).end(await refusal.text());
      },
    ];
    const { stdout, stderr } = await place(randomUUID());
    expect(stderr).toMatch(/^502: asking again in \d+ ms$/m);
    expect(sent).toBe(7);
    const rows = await service.database.query('SELECT FROM orders');
    expect(rows).toHaveLength(1);
    expect(stdout).toMatch(/orderId: 'ord_/);
  });

  it('does not repeat what is refused', async () => {
    await expect(place('short')).rejects.toMatchObject({
      code: 1,
      stderr: expect.stringMatching(/^The order was refused: {"error":{"code":"ORDER_VALIDATION_FAILED".*\n$/),
    });
    expect(sent).toBe(1);
  });

  const forbid: Fate = (_req, _body, res) => res.writeHead(403, { 'content-type': 'text/html' }).end('<html>');
  const loseAnswer: Fate = async (req, body, res) => {
    await forward(req, body);
    res.destroy();
  };
  const limit: Fate = (_req, _body, res) => res.writeHead(429, { 'retry-after': '300' }).end('{}');

  it.each<[string, string, Fate[]]>([
    ['it was refused, when that is so', 'The order was refused: <html>', [forbid]],
    ['it is not known, when an attempt before was not answered', 'It is not known whether', [loseAnswer, forbid]],
    ['there is none yet, when it was asked to wait for too long', 'There is no order yet', [limit]],
  ])('says of an order that %s', async (_, message, given) => {
    fates = [...given];
    await expect(place(randomUUID())).rejects.toMatchObject({ stderr: expect.stringContaining(message) });
    expect(sent).toBe(given.length);
  });

  it('does not count as sent what had no token yet', async () => {
    let asked = 0;
    const server = createServer((_req, res) => {
      res.writeHead((asked += 1) === 1 ? 503 : 200).end('{"access_token":"a"}');
    });
    const identityProvider = await listen(server, 0);
    fates = [forbid];
    await expect(place(randomUUID(), CLIENT_SECRET, identityProvider.url)).rejects.toMatchObject({
      stderr: expect.stringContaining('The order was refused: <html>'),
    });
    expect([asked, sent]).toEqual([2, 1]);
    await identityProvider.stop();
  });

  it('says at once that it is not let in', async () => {
    await expect(place(randomUUID(), 'wrong')).rejects.toMatchObject({
      stderr: expect.stringContaining('The identity provider refuses the client: {"error":"invalid_client"'),
    });
    expect(sent).toBe(0);
  });
});
