import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { freePort } from './free-port';
import { until } from './until';

export interface RedisServer {
  readonly url: string;
  readonly process: ChildProcess;
  /** Starts a new server on the same port, without the data of this one. */
  restart(): Promise<RedisServer>;
  /** Ends it in any state, with SIGKILL: its data is not needed. */
  kill(): Promise<void>;
}

/** `describe` for tests with Redis. Without it they are skipped with a warning, and fail if REQUIRE_KAFKA=1. */
export function describeWithRedis(name: string, body: () => void): void {
  const isThere = spawnSync('redis-server', ['--version']).status === 0;
  if (!isThere && process.env['REQUIRE_KAFKA'] === '1') throw new Error('REQUIRE_KAFKA=1, and redis-server is missing');
  if (!isThere) console.warn('\n\n  REDIS TESTS ARE SKIPPED: redis-server is missing.\n');
  (isThere ? describe : describe.skip)(name, body);
}

interface RedisOptions {
  readonly port?: number;
  readonly password?: string;
  /** New names by command; '' disables the command. */
  readonly renamed?: Readonly<Record<string, string>>;
}

/** A real Redis on 127.0.0.1 that keeps nothing on disk. */
export async function startRedis(options: RedisOptions = {}): Promise<RedisServer> {
  const { port: at = await freePort(), password, renamed = {} } = options;
  const settings = ['--port', String(at), '--bind', '127.0.0.1', '--save', '', '--appendonly', 'no', '--dir', tmpdir()];
  if (password !== undefined) settings.push('--requirepass', password);
  settings.push(...Object.entries(renamed).flatMap((names) => ['--rename-command', ...names]));
  const child = spawn('redis-server', settings, { stdio: 'ignore' });
  const kill = async () => {
    if (child.exitCode !== null || child.signalCode !== null) return;
    const exit = once(child, 'exit');
    child.kill('SIGKILL');
    await exit;
  };
  try {
    await until('Redis', () => answersAt(at));
  } catch (error) {
    await kill();
    throw error;
  }
  const url = `redis://${password === undefined ? '' : `:${password}@`}127.0.0.1:${at}`;
  return { url, process: child, kill, restart: () => startRedis({ ...options, port: at }) };
}

async function answersAt(port: number): Promise<boolean> {
  const socket = net.connect(port, '127.0.0.1');
  try {
    await once(socket, 'connect');
    socket.write('PING\r\n');
    await once(socket, 'data');
    return true;
  } catch {
    return false;
  } finally {
    socket.destroy();
  }
}
