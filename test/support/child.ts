import { type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { startProgram } from '../../apps/sandbox/src/program';
import { environment } from './environment';
import { freePort } from './free-port';
import { until } from './until';

export interface ServiceProcess {
  readonly url: string;
  readonly process: ChildProcess;
  /** Log lines so far. */
  readonly lines: Record<string, unknown>[];
  /** Sends the signal and waits for the end. @returns the exit code, or null when the signal ended it */
  end(signal?: NodeJS.Signals): Promise<number | null>;
}

/** A test that fails before it has ended its processes would keep jest from ending. */
const started: ChildProcess[] = [];
afterAll(() => started.forEach((child) => child.kill('SIGKILL')));

interface Options {
  /** Another build than this one. */
  readonly dist?: string;
  /** Whether it is waited for only until it lives, because something that it needs is missing. */
  readonly isNotReady?: boolean;
}

/**
 * The service as production runs it: the compiled program in a process of its own, when it is ready.
 * @throws {Error} with what it logged last, when it does not come up; it is ended then
 */
export async function spawnService(
  overrides: NodeJS.ProcessEnv,
  { dist, isNotReady = false }: Options = {},
): Promise<ServiceProcess> {
  const port = await freePort();
  const env = environment({ PATH: process.env['PATH'], PORT: String(port), LOG_LEVEL: 'info', ...overrides });
  const child = startProgram('main', env, [], 'pipe', dist);
  started.push(child);
  const lines: Record<string, unknown>[] = [];
  let rest = '';
  child.stdout?.on('data', (chunk: Buffer) => {
    const parts = (rest + chunk.toString()).split('\n');
    rest = parts.pop() ?? '';
    lines.push(...parts.map((line) => JSON.parse(line) as Record<string, unknown>));
  });
  const url = `http://127.0.0.1:${port}`;
  const service: ServiceProcess = {
    url,
    process: child,
    lines,
    async end(signal = 'SIGTERM') {
      if (child.exitCode === null && child.signalCode === null) {
        const end = once(child, 'close'); // which is after its last line
        child.kill(signal);
        await end;
      }
      return child.exitCode;
    },
  };
  const isUp = async () => {
    if (child.exitCode !== null) throw new Error(`The service ended with ${child.exitCode}`);
    const probe = `${url}/health/${isNotReady ? 'live' : 'ready'}`;
    const answer = await fetch(probe, { signal: AbortSignal.timeout(5_000) }).catch(() => undefined);
    return answer?.ok;
  };
  try {
    await until('the service', isUp);
    return service;
  } catch (error) {
    await service.end('SIGKILL');
    throw new Error(`${String(error)}; it logged last: ${JSON.stringify(lines.slice(-5))}`, { cause: error });
  }
}
