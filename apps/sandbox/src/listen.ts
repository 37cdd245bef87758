import { once } from 'node:events';
import type { Server } from 'node:http';
import https from 'node:https';
import type { AddressInfo } from 'node:net';

/** As long as clients keep idle connections: a request on one that is just being closed fails. Node's default: 5 s. */
const KEEP_ALIVE_MS = 65_000;

/** A server that this machine reaches at `url`. */
export interface RunningServer {
  readonly url: string;
  stop(): Promise<void>;
}

/**
 * @param port 0 takes any free one
 * @param host address to listen on; with any but 127.0.0.1 other machines reach the server too
 */
export async function listen(server: Server | https.Server, port: number, host = '127.0.0.1'): Promise<RunningServer> {
  server.keepAliveTimeout = KEEP_ALIVE_MS;
  server.listen(port, host);
  await once(server, 'listening');
  return {
    url: `${server instanceof https.Server ? 'https' : 'http'}://127.0.0.1:${(server.address() as AddressInfo).port}`,
    async stop() {
      const closed = once(server, 'close');
      server.close();
      server.closeAllConnections();
      await closed;
    },
  };
}
