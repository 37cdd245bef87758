import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import path from 'node:path';
import { text } from 'node:stream/consumers';
import { environment } from './environment';

export interface Run {
  /** Null when a signal ended it. */
  readonly code: number | null;
  readonly out: string;
  readonly err: string;
}

/** A test that fails before they have ended would leave them behind, and keep jest from ending. */
const started: ChildProcess[] = [];
afterAll(() => started.forEach((child) => child.kill('SIGKILL')));

/**
 * Runs a compiled program of the service to its end, as its npm script does.
 * @param program path below `apps/order-service/src`, without its ending
 * @param overrides environment variables that differ from the tests' usual ones
 */
export async function runToEnd(program: string, overrides: NodeJS.ProcessEnv, args: string[] = []): Promise<Run> {
  const file = path.resolve(`dist/apps/order-service/src/${program}.js`);
  const child = spawn(process.execPath, ['--disable-warning=TimeoutNegativeWarning', file, ...args], {
    env: environment(overrides),
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  started.push(child);
  const closed = once(child, 'close') as Promise<[number | null]>;
  const [out, err, [code]] = await Promise.all([text(child.stdout), text(child.stderr), closed]);
  return { code, out, err };
}
