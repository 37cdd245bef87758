import { once } from 'node:events';
import type { Server } from 'node:http';
import https from 'node:https';
import type { AddressInfo } from 'node:net';

/** A server on 127.0.0.1. */
export interface RunningServer {
  readonly url: string;
  stop(): Promise<void>;
}

/** @param port 0 takes any that is free */
export async function listen(server: Server | https.Server, port: number): Promise<RunningServer> {
  server.listen(port, '127.0.0.1');
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
