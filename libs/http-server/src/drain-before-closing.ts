import type { IncomingMessage } from 'node:http';

const LINGER_MS = 2_000;

/**
 * For a request whose body has not arrived yet. Node closes a connection right after its last response, and a client
 * that still sends then may lose the response to a reset. So the rest of the body is read first, for 2 s at most.
 */
export function drainBeforeClosing(req: IncomingMessage): void {
  const { socket } = req;
  const restore = () => delete (socket as { destroySoon?: unknown }).destroySoon;
  req.once('end', restore); // so that a long-lived connection does not keep the request in memory
  socket.destroySoon = () => {
    restore();
    if (req.complete) return socket.destroySoon();
    socket.end();
    req.once('end', () => socket.destroy()).resume();
    setTimeout(() => socket.destroy(), LINGER_MS).unref();
  };
}
