import { once } from 'node:events';
import http, { type Server } from 'node:http';
import https from 'node:https';
import net, { type AddressInfo } from 'node:net';
import tls from 'node:tls';
import { trackConnections } from '@platform/http-server';
import { TestCertificates } from '../support/certificates';

describe('trackConnections', () => {
  let certificates: TestCertificates;

  beforeAll(async () => {
    certificates = await TestCertificates.create();
  });
  afterAll(() => certificates.remove());

  const servers: [string, () => Server, (port: number) => net.Socket][] = [
    ['without TLS', () => http.createServer(), (port) => net.connect(port, '127.0.0.1')],
    [
      'with TLS',
      () => https.createServer({ cert: certificates.server.cert, key: certificates.server.key }),
      (port) => tls.connect({ port, host: '127.0.0.1', rejectUnauthorized: false }),
    ],
  ];

  it.each(servers)('lets a server %s end but for what it is answering', async (_, create, connect) => {
    const server = create();
    const connections = trackConnections(server);
    const asked = once(server, 'request');
    await once(server.listen(0, '127.0.0.1'), 'listening');
    const { port } = server.address() as AddressInfo;

    const silent = [net.connect(port, '127.0.0.1'), connect(port)];
    const half = connect(port);
    half.write('GET / HTTP/1.1\r\nHost: a\r\n');
    const asking = connect(port);
    asking.write('GET / HTTP/1.1\r\nHost: a\r\n\r\n');
    const [, res] = (await asked) as [unknown, http.ServerResponse];
    const closed = [...silent, half].map((socket) =>
      once(
        socket.on('error', () => undefined),
        'close',
      ),
    );
    const ended = new Promise((resolve) => server.close(resolve));

    connections.closeUnused();
    await Promise.all(closed);
    res.setHeader('Connection', 'close').end('answered');
    const [answer] = (await once(asking, 'data')) as [Buffer];
    expect(answer.toString()).toContain('answered');
    await ended;
  });
});
