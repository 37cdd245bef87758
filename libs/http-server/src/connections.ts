import type { Server } from 'node:http';
import type { Socket } from 'node:net';
import type { TLSSocket } from 'node:tls';

/**
 * Lets a shutdown close the connections without a request under way. Node's `closeIdleConnections` spares those that have
 * sent nothing yet, or only a part of their headers, and once it does not listen any more Node ends none that takes long.
 */
export function trackConnections(server: Server): { closeUnused(): void } {
  const connections = new Set<Socket>();
  const track = (socket: Socket) => {
    connections.add(socket);
    socket.once('close', () => connections.delete(socket));
  };
  server.on('connection', track);
  // The connection below is no longer spoken with, and shows no answer.
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

/** Node's HTTP server keeps the answer under way there. */
function isAnswering(socket: Socket & { _httpMessage?: unknown }): boolean {
  return !!socket._httpMessage;
}
