import { once } from 'node:events';
import net from 'node:net';
import { Pool } from 'pg';
import { isUnavailable } from './database-errors';
import { FailFastClient } from './fail-fast-client';

/** PostgreSQL's messages: a type, the length of what follows, what follows. */
function message(type: string, ...parts: string[]): Buffer {
  const rest = Buffer.from(parts.join(''), 'latin1');
  const length = Buffer.alloc(4);
  length.writeInt32BE(4 + rest.length);
  return Buffer.concat([Buffer.from(type), length, rest]);
}

const AUTHENTICATED = message('R', '\0\0\0\0');
const READY = message('Z', 'I');
const SHUTTING_DOWN = message('E', 'SFATAL\0C57P01\0Mterminating connection due to administrator command\0\0');

describe('FailFastClient', () => {
  const server = net.createServer((socket) => {
    socket.on('error', () => undefined);
    socket.once('data', () => socket.end(Buffer.concat([AUTHENTICATED, READY, SHUTTING_DOWN])));
  });
  let pool: Pool;

  beforeAll(async () => {
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address() as net.AddressInfo;
    pool = new Pool({ host: '127.0.0.1', port, user: 'any', Client: FailFastClient });
    pool.on('error', () => undefined);
  });
  afterAll(async () => {
    await pool.end();
    server.close();
  });

  it('survives the end that a server which shuts down sends together with its welcome, and tells why it ended', async () => {
    const client = await pool.connect();
    const error: unknown = await client.query('SELECT 1').catch((reason: unknown) => reason);
    client.release();
    expect(isUnavailable(error)).toBe(true);
    expect(error).toMatchObject({ cause: { code: '57P01' } });
    expect(pool.totalCount).toBe(0);
  });
});
