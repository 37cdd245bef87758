import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import type { IncomingMessage } from 'node:http';
import https from 'node:https';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { Pieces } from './pieces';

/**
 * As in `npm run start:prod`. kafkajs sets timers that lie in the past: Node would warn of the first, and nobody can
 * act on that.
 */
const NODE_FLAGS = [
  '--disable-sigusr1',
  '--enable-source-maps',
  '--disable-warning=TimeoutNegativeWarning',
  '--max-semi-space-size=16',
];

const READY_WITHIN_MS = 60_000;
const STOP_WITHIN_MS = 15_000;

const DIST = path.resolve('dist');

/**
 * Starts a program of the service, as production does: a Node process of its own.
 * @param entry path below `apps/order-service/src`, without its ending
 * @param stdout where its output goes; to read it here (`pipe`) takes as much CPU time as answering many requests
 * @param dist directory of the build
 */
export function startProgram(
  entry: string,
  env: NodeJS.ProcessEnv,
  args: readonly string[] = [],
  stdout: 'pipe' | 'inherit' | number = 'pipe',
  dist = DIST,
): ChildProcess {
  const file = path.join(dist, 'apps/order-service/src', `${entry}.js`);
  // A process group of its own, so that Ctrl-C in the terminal does not reach it directly.
  return spawn(process.execPath, [...NODE_FLAGS, file, ...args], {
    env,
    detached: true,
    stdio: ['ignore', stdout, 'inherit', 'ipc'], // through `ipc` the service notices that this process is gone
  });
}

/**
 * Runs a program of the service to its end, or until the pieces are stopped.
 * @throws {Error} when it fails; it has said why on standard error
 */
export async function runProgram(
  pieces: Pieces,
  entry: string,
  env: NodeJS.ProcessEnv,
  args: readonly string[] = [],
  dist?: string,
): Promise<void> {
  const { child } = await pieces.start(async () => {
    const child = startProgram(entry, env, args, 'pipe', dist);
    return { child, stop: () => stop(child) };
  });
  child.stdout?.resume();
  const [code, signal] = (await once(child, 'exit')) as [number | null, string | null];
  if (signal) throw new Error(`${entry} was ended by ${signal}.`);
  if (code !== 0) throw new Error(`${entry} failed; the reason is printed above.`);
}

/** Whether the process exists, even if it is another user's. */
export function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch (error) {
    return (error as NodeJS.ErrnoException).code !== 'ESRCH';
  }
}

interface ServiceOptions {
  readonly pieces: Pieces;
  readonly env: NodeJS.ProcessEnv;
  readonly url: string;
  /** Where its log lines go: our own standard output, a file descriptor, or a stream of ours. */
  readonly output: 'inherit' | number | NodeJS.WritableStream;
  /** Called when the service ends by itself after it was ready. */
  readonly fail: (error: unknown) => void;
}

/**
 * Starts a process of the service and waits until it is ready.
 * @throws {Error} when it ends before that, or takes too long
 */
export async function startService({ pieces, env, url, output, fail }: ServiceOptions): Promise<void> {
  const { service } = await pieces.start(async () => {
    const service = startProgram('main', env, [], typeof output === 'object' ? 'pipe' : output);
    return { service, stop: () => stop(service) };
  });
  if (typeof output === 'object') service.stdout?.pipe(output, { end: false });
  const exited = once(service, 'exit').then(([code, signal]) => {
    if (!pieces.areStopping) throw new Error(`The service ended by itself with ${signal ?? `exit code ${code}`}.`);
  });
  await Promise.race([exited, untilReady(`${url}/health/ready`)]);
  exited.catch(fail);
}

async function untilReady(url: string): Promise<void> {
  const deadline = Date.now() + READY_WITHIN_MS;
  while (Date.now() < deadline) {
    if (await isOk(url).catch(() => false)) return;
    await delay(50);
  }
  throw new Error(`The service was not ready after ${READY_WITHIN_MS / 1_000} s.`);
}

async function isOk(url: string): Promise<boolean> {
  if (url.startsWith('http:')) return (await fetch(url)).ok;
  // Not verified: the sandbox has started the service itself, and knows whom it calls.
  const [response] = (await once(https.get(url, { rejectUnauthorized: false, agent: false }), 'response')) as [
    IncomingMessage,
  ];
  response.resume();
  return response.statusCode === 200;
}

async function stop(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exit = once(child, 'exit');
  child.kill('SIGTERM');
  const timer = setTimeout(() => child.kill('SIGKILL'), STOP_WITHIN_MS);
  await exit;
  clearTimeout(timer);
}
