import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import path from 'node:path';

/** kafkajs computes timers that are in the past; Node warns of each first one, and nobody can act on it. */
const NODE_FLAGS = ['--enable-source-maps', '--disable-warning=TimeoutNegativeWarning'];

const DIST = path.resolve('dist');

/**
 * Starts a program of the service, as production does: a Node process of its own.
 * @param entry path below `apps/order-service/src`, without its ending
 */
export function startProgram(entry: string, env: NodeJS.ProcessEnv, args: readonly string[] = []): ChildProcess {
  const file = path.join(DIST, 'apps/order-service/src', `${entry}.js`);
  // A process group of its own: Ctrl-C in the terminal reaches it only through us.
  return spawn(process.execPath, [...NODE_FLAGS, file, ...args], {
    env,
    detached: true,
    stdio: ['ignore', 'pipe', 'inherit'],
  });
}

/** Runs a program of the service to its end. @throws {Error} when it fails; it has said why on standard error */
export async function runProgram(entry: string, env: NodeJS.ProcessEnv, args: readonly string[] = []): Promise<void> {
  const child = startProgram(entry, env, args);
  child.stdout?.resume();
  const [code] = (await once(child, 'exit')) as [number | null];
  if (code !== 0) throw new Error(`${entry} failed; the reason stands above.`);
}
