import { once } from 'node:events';
import net from 'node:net';

/** Whether anybody accepts a connection there. */
export async function answers(port: number, host = '127.0.0.1'): Promise<boolean> {
  const socket = net.connect(port, host);
  try {
    await once(socket, 'connect');
    return true;
  } catch {
    return false;
  } finally {
    socket.destroy();
  }
}
