import { once } from 'node:events';
import net from 'node:net';

/** @throws {Error} naming the port and the variable that moves it, when something listens there */
export async function assertFree({ name, value }: { name?: string; value: number }): Promise<void> {
  const probe = net.createServer();
  try {
    probe.listen(value, '127.0.0.1');
    await once(probe, 'listening');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EADDRINUSE') throw error;
    const hint = name === undefined ? '' : `, or set ${name} to another port`;
    throw new Error(`Port ${value} is taken: stop what listens there${hint}.`, { cause: error });
  }
  probe.close();
  await once(probe, 'close');
}

/** A port on 127.0.0.1 that nothing listened on a moment ago. */
export async function freePort(): Promise<number> {
  const probe = net.createServer().listen(0, '127.0.0.1');
  await once(probe, 'listening');
  const { port } = probe.address() as net.AddressInfo;
  probe.close();
  await once(probe, 'close');
  return port;
}
