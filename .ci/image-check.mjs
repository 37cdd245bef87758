// Checks an image: `image-check.mjs docker|chroot IMAGE CONFIG.json FILES ROOTFS`. Prints each fact that holds; the first
// fault ends it. FILES is a listing by `tar -tv --numeric-owner`, because files that are unpacked without being root lose
// their owners and modes. Only `chroot` needs ROOTFS.
import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';

const [engine, image, configFile, filesFile, root] = process.argv.slice(2);
const config = JSON.parse(readFileSync(configFile, 'utf8'));
const require = createRequire(new URL('../package.json', import.meta.url));
const manifest = require('./package.json');
const SERVICE = 'dist/apps/order-service/src';
const PORT = 3471;
/** A larger image contains something that does not belong in it. */
const MAX_MIB = 240;

const holds = (what) => console.log(`ok  ${what}`);

/** What is in the image, without what a container gets from its engine. Names are relative to the root. */
const files = readFileSync(filesFile, 'utf8')
  .trimEnd()
  .split('\n')
  .map((line) => {
    const match =
      /^(?<mode>\S{10}) (?<uid>\d+)\/\d+ +(?<size>\d+) \S+ \S+ (?<name>.*?)\/?(?: -> .*| link to .*)?$/.exec(line);
    assert.ok(match || /^[bc]/.test(line), `not a line of a listing: ${line}`);
    return match?.groups;
  })
  .filter((file) => file && !/^(dev|proc|sys)(\/|$)/.test(file.name));

/** The names of the packages that are installed. */
const modules = new Set(
  files.flatMap(({ name }) => /^app\/node_modules\/((?:@[^/]+\/)?[^/@]+)\/package\.json$/.exec(name)?.[1] ?? []),
);
const isFile = (name) => files.some((file) => file.name === name && file.mode.startsWith('-'));

function checkConfig() {
  assert.match(config.User, /^[1-9]\d*(:[1-9]\d*)?$/, 'the user must be numeric and not root');
  holds(`user ${config.User}`);
  assert.equal(config.Entrypoint[0], '/usr/local/bin/node');
  assert.deepEqual(
    ['node', ...config.Entrypoint.slice(1), ...config.Cmd],
    manifest.scripts['start:prod'].split(' '),
    'entry point and command must be those of npm run start:prod',
  );
  holds('entry point is npm run start:prod, without a shell');
  assert.ok(config.Env.includes('NODE_ENV=production'), 'NODE_ENV=production must be set');
  assert.ok(
    config.Env.includes('NODE_OPTIONS=--disable-warning=TimeoutNegativeWarning'),
    'what is started beside the service must not warn of the timers of kafkajs',
  );
  assert.ok('3000/tcp' in (config.ExposedPorts ?? {}), 'port 3000 must be exposed');
  const secrets = config.Env.filter((entry) => /(_KEY|_URL|SECRET|PASSWORD|TOKEN)[^=]*=/.test(entry));
  assert.deepEqual(secrets, [], 'no secret may stand in the environment');
  for (const label of ['title', 'version', 'revision', 'created']) {
    const value = config.Labels?.[`org.opencontainers.image.${label}`];
    assert.ok(value && value !== 'unknown', `label ${label} is missing`);
  }
  holds('environment, port and labels');
}

function checkContents() {
  const find = (test) => files.filter(test).map(({ name }) => name);
  const none = (what, test) => {
    assert.deepEqual(find(test).slice(0, 10), [], `${what} in the image`);
    holds(`no ${what}`);
  };
  const base = (name) => path.basename(name);
  const outside = (name) => !name.includes('node_modules/');
  none('shell', ({ name }) => /(^|\/)(sh|bash|dash|ash|busybox)$/.test(name) && outside(name));
  none('package manager', ({ name }) => /(^|\/)(npm|npx|yarn|corepack|apt-get|dpkg)$/.test(name) && outside(name));
  none('TypeScript source of ours', ({ name }) => /\.[cm]?ts$/.test(name) && outside(name));
  none('test or sandbox', ({ name }) => /^app\/(test|dist\/apps\/sandbox|.*\.spec\.)/.test(name) && outside(name));
  none('.env, .git or .npmrc', ({ name }) => /^\.(env.*|git|npmrc)$/.test(base(name)) && outside(name));
  assert.deepEqual(
    Object.keys(manifest.devDependencies).filter((name) => modules.has(name) && !isRuntimeDependency(name)),
    [],
    'devDependencies in the image',
  );
  assert.ok(modules.has('express'), 'production dependencies are missing');
  holds('no devDependencies');
  const [user] = config.User.split(':');
  none(
    'file that the user may change',
    ({ name, mode, uid }) =>
      !/^l|^d.*t$/.test(mode) && !name.startsWith('home/nonroot') && (uid === user || mode[8] === 'w'),
  );
  none('setuid file', ({ mode }) => /^-.*s/i.test(mode));
  const mib = files.reduce((sum, { size }) => sum + Number(size), 0) / 2 ** 20;
  assert.ok(mib <= MAX_MIB, `the image has ${mib.toFixed(1)} MiB, more than ${MAX_MIB}`);
  holds(`${mib.toFixed(1)} MiB, at most ${MAX_MIB}`);
}

/** The lock file marks packages that only development needs. */
const isRuntimeDependency = (name) => {
  const entry = require('./package-lock.json').packages[`node_modules/${name}`];
  return entry !== undefined && !entry.dev && !entry.devOptional;
};

/** A program of the image, as it would run in production: its own entry point and user, a root it cannot write to. */
function run(file, env) {
  const given = Object.entries(env).map(([name, value]) => `${name}=${value}`);
  // Process 1 of its own process namespace, as in a container.
  const enter = 'mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" && exec env -i "$@"';
  const chroot = ['/usr/sbin/chroot', `--userspec=${config.User}`, root, ...config.Entrypoint];
  const [command, ...args] =
    engine === 'docker'
      ? ['docker', 'run', '--rm', '--network=host', '--read-only', '--cap-drop=ALL', '--security-opt=no-new-privileges']
          .concat(given.flatMap((entry) => ['--env', entry]))
          .concat(image, file)
      : ['unshare', '--mount', '--pid', '--fork', '--kill-child', 'bash', '-c', enter, root]
          .concat(config.Env, given, chroot)
          .concat(path.posix.join(config.WorkingDir, file));
  return spawn(command, args, { stdio: ['ignore', 'pipe', 'inherit'] });
}

async function toEnd(child) {
  child.stdout.resume();
  const [code] = await once(child, 'exit');
  return code;
}

function terminate(child) {
  if (engine === 'docker') return child.kill('SIGTERM'); // handed on to the container
  const [inner] = readFileSync(`/proc/${child.pid}/task/${child.pid}/children`, 'utf8').trim().split(' ');
  process.kill(Number(inner), 'SIGTERM');
}

async function eventually(what, attempt) {
  const deadline = Date.now() + 60_000;
  for (;;) {
    const value = await attempt().catch(() => undefined);
    if (value) return value;
    if (Date.now() > deadline) throw new Error(`not within a minute: ${what}`);
    await delay(100);
  }
}

async function checkRun() {
  const { startPostgres } = require('./dist/apps/sandbox/src/postgres.js');
  const { startIdentityProvider } = require('./dist/apps/sandbox/src/identity-provider.js');
  const { startPaymentApi } = require('./dist/apps/sandbox/src/payment-api.js');
  const { AUDIENCE, CLIENT_SECRET, SERVICE_LOGIN } = require('./dist/apps/sandbox/src/settings.js');
  const dataDir = mkdtempSync(path.join(tmpdir(), 'image-postgres-'));
  execFileSync('chmod', ['755', dataDir]);
  const postgres = await startPostgres({ dataDir: path.join(dataDir, 'data'), port: 54971 });
  const idp = await startIdentityProvider(0);
  const payments = await startPaymentApi(0);
  let service;
  try {
    await postgres.createDatabase('orders');
    await postgres.createLogin(SERVICE_LOGIN.name, SERVICE_LOGIN.group, 'orders');
    const env = {
      DATABASE_URL: postgres.url('orders', SERVICE_LOGIN.name),
      OIDC_ISSUER: idp.url,
      OIDC_AUDIENCE: AUDIENCE,
      PAYMENT_API_URL: payments.url,
      AUDIT_KEY: 'a-key-of-this-check-and-of-nothing-else',
      PSEUDONYM_KEY: 'a-key-of-this-check-and-of-nothing-else',
      HOST: '127.0.0.1',
      PORT: String(PORT),
      SHUTDOWN_DELAY_MS: '200',
    };
    const migrationUrl = postgres.url('orders');
    const migrate = run(`${SERVICE}/database/migrate.js`, { ...env, DATABASE_MIGRATION_URL: migrationUrl });
    assert.equal(await toEnd(migrate), 0, 'migrate.js failed');
    holds('migrate.js brings an empty database to this version');
    for (const file of ['topics', 'dlq', 'audit', 'retention']) {
      assert.ok(isFile(`app/${SERVICE}/${file}.js`), `${file}.js is missing`);
    }
    assert.equal(await toEnd(run(`${SERVICE}/retention.js`, env)), 0, 'retention.js failed');
    holds('retention.js runs; topics.js, dlq.js and audit.js are there');

    service = run(`${SERVICE}/main.js`, env);
    let log = '';
    service.stdout.on('data', (chunk) => (log += chunk));
    const url = `http://127.0.0.1:${PORT}`;
    const exited = once(service, 'exit');
    const died = exited.then(([code]) => assert.fail(`the service ended with ${code} before it was ready:\n${log}`));
    died.catch(() => undefined);
    await Promise.race([died, eventually('ready', async () => (await fetch(`${url}/health/ready`)).ok)]);
    holds('/health/ready is 200, on a read-only root');

    const basic = Buffer.from(`order-orchestrator:${CLIENT_SECRET}`).toString('base64');
    const form = new URLSearchParams({ grant_type: 'client_credentials' });
    const token = await fetch(`${idp.url}/token`, {
      method: 'POST',
      headers: { authorization: `Basic ${basic}` },
      body: form,
    });
    const headers = {
      authorization: `Bearer ${(await token.json()).access_token}`,
      'content-type': 'application/json',
    };
    const order = {
      idempotencyKey: 'image-check-1',
      customerId: 'cust_123',
      items: [{ sku: 'ABC-001', quantity: 2, unitPrice: '49.99' }],
      totalAmount: { currency: 'USD', value: '99.98' },
    };
    const created = await fetch(`${url}/v1/orders`, { method: 'POST', headers, body: JSON.stringify(order) });
    assert.equal(created.status, 201, await created.clone().text());
    const { orderId } = await created.json();
    await eventually('CONFIRMED', async () => {
      const read = await fetch(`${url}/v1/orders/${orderId}`, { headers });
      return (await read.json()).status === 'CONFIRMED';
    });
    holds('an order is accepted, paid and CONFIRMED');

    terminate(service);
    const [code] = await exited;
    assert.equal(code, 0, `exit code ${code} after SIGTERM:\n${log}`);
    holds('SIGTERM reaches Node.js as process 1: exit code 0');
  } finally {
    if (service && service.exitCode === null) service.kill('SIGKILL');
    await payments.stop();
    await idp.stop();
    await postgres.stop();
    rmSync(dataDir, { recursive: true, force: true });
  }
}

checkConfig();
checkContents();
await checkRun();
