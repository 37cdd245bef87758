import type { Server } from 'node:http';
import type { Socket } from 'node:net';
import type { TLSSocket } from 'node:tls';

/**
 * Lets a shutdown close the connections without a request. Node's `closeIdleConnections` spares those that have sent
 * nothing yet or only part of their headers, and a server that no longer listens enforces no timeouts.
 */
export function trackConnections(server: Server): { closeUnused(): void } {
  const connections = new Set<Socket>();
  const track = (socket: Socket) => {
    connections.add(socket);
    socket.once('close', () => connections.delete(socket));
  };
  server.on('connection', track);
  // The TLS socket replaces the TCP socket under it, on which no response would be seen.
  server.on('secureConnection', (socket: TLSSocket & { _parent?: Socket }) => {
    if (socket._parent) connections.delete(socket._parent);
    track(socket);
  });
  return {
    closeUnused: () => {
      for (const socket of connections) if (!isAnswering(socket)) socket.destroy();
    },
  };
}

/** `_httpMessage` is where Node's HTTP server keeps the current response. */
function isAnswering(socket: Socket & { _httpMessage?: unknown }): boolean {
  return !!socket._httpMessage;
}
