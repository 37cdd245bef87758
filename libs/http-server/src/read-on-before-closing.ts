import type { IncomingMessage } from 'node:http';

const LINGER_MS = 2_000;

/**
 * For a request whose body has not come yet. Node closes a connection right behind its last answer, and what the client
 * sends then makes its system throw the answer away: so what is left of the body is taken in first, if it does not take long.
 */
export function readOnBeforeClosing(req: IncomingMessage): void {
  const { socket } = req;
  const restore = () => delete (socket as { destroySoon?: unknown }).destroySoon;
  req.once('end', restore); // the connection may live for long, and is not to keep the request
  socket.destroySoon = () => {
    restore();
    if (req.complete) return socket.destroySoon();
    socket.end();
    req.once('end', () => socket.destroy()).resume();
    setTimeout(() => socket.destroy(), LINGER_MS).unref();
  };
}
