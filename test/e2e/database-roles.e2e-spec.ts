import { chmodSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { loadConfig } from '@platform/config';
import { Client } from 'pg';
import { migrate } from '../../apps/order-service/src/database/migrate';
import { SERVICE_NAME } from '../../apps/order-service/src/service-name';
import { type PostgresServer, startPostgres } from '../../apps/sandbox/src/postgres';
import { createDatabase, type TestDatabase } from '../support/database';
import { environment } from '../support/environment';
import { freePort } from '../support/free-port';

/** All that a table can be granted for, as `has_table_privilege` names it. */
const ALL = ['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER'];

describe('The role of the service', () => {
  let database: TestDatabase;
  let service: Client;

  beforeAll(async () => {
    database = await createDatabase();
    service = new Client(database.url);
    await service.connect();
  });
  afterAll(async () => {
    await service.end();
    await database.drop();
  });

  it('has exactly the privileges that the service needs', async () => {
    const [version] = await database.query<{ number: number }>(
      "SELECT current_setting('server_version_num')::int AS number",
    );
    const rows = await database.query<{ name: string; privileges: string[] }>(
      `SELECT relation.oid::regclass::text AS name,
              array(SELECT privilege FROM unnest($1::text[]) WITH ORDINALITY AS p (privilege, place)
                    WHERE has_table_privilege('order_service', relation.oid, privilege) ORDER BY place) AS privileges
       FROM pg_class AS relation
       WHERE relnamespace NOT IN ('pg_catalog'::regnamespace, 'information_schema'::regnamespace, 'pg_toast'::regnamespace)
         AND relkind IN ('r', 'p', 'v', 'm', 'f')`,
      [(version?.number ?? 0) < 170_000 ? ALL : [...ALL, 'MAINTAIN']],
    );
    expect(Object.fromEntries(rows.map(({ name, privileges }) => [name, privileges.join(' ')]))).toEqual({
      orders: 'SELECT INSERT UPDATE DELETE',
      idempotency_keys: 'SELECT INSERT DELETE',
      payments: 'SELECT INSERT UPDATE',
      outbox: 'SELECT INSERT UPDATE DELETE',
      outbox_parked: 'SELECT INSERT',
      inbox: 'SELECT INSERT DELETE',
      audit_events: 'SELECT', // and INSERT of what it may say: see below
      audit_blocks: 'SELECT INSERT',
      erasures: 'SELECT INSERT UPDATE',
      cursor_keys: 'SELECT',
      migrations: 'SELECT',
      'graphile_worker._private_jobs': 'SELECT INSERT UPDATE DELETE',
      'graphile_worker._private_job_queues': 'SELECT INSERT UPDATE',
      'graphile_worker._private_tasks': 'SELECT INSERT',
      'graphile_worker._private_known_crontabs': '',
      'graphile_worker.jobs': '',
      'graphile_worker.migrations': '',
    });
  });

  it('may write audit events, but not place them', async () => {
    const rows = await database.query<{ name: string }>(
      `SELECT attname AS name FROM pg_attribute
       WHERE attrelid = 'audit_events'::regclass AND attnum > 0
         AND NOT has_column_privilege('order_service', attrelid, attnum, 'INSERT')`,
    );
    expect(rows.map(({ name }) => name)).toEqual(['transaction', 'position']);
  });

  it('may add only blocks that follow the trail, whatever tables of its own it makes', async () => {
    const block = `INSERT INTO public.audit_blocks
                   VALUES (1, now(), 9000000000000000000, '{}', '', '', '')`;
    await database.query(`GRANT TEMP ON DATABASE ${new URL(database.url).pathname.slice(1)} TO order_service`);
    await service.query('BEGIN');
    try {
      await expect(service.query(`SAVEPOINT mine; ${block}`)).rejects.toMatchObject({ code: '23514' });
      await service.query(`ROLLBACK TO mine;
        CREATE TEMP TABLE audit_events AS SELECT 9000000000000000000 AS position;
        CREATE TEMP TABLE audit_blocks (LIKE public.audit_blocks)`);
      await expect(service.query(block)).rejects.toMatchObject({ code: '23514' });
    } finally {
      await service.query('ROLLBACK');
      await database.query(`REVOKE TEMP ON DATABASE ${new URL(database.url).pathname.slice(1)} FROM order_service`);
    }
  });

  const order = (status: string, paymentStatus: string | null) =>
    service.query(
      `INSERT INTO orders (id, tenant_id, client_id, customer_id, status, currency, total_value, items, version,
                           event_sequence, created_at, updated_at, payment_status)
       VALUES (gen_random_uuid(), 't', 'c', 'cust', $1, 'USD', 1, '[]', 1, 1, now(), now(), $2)`,
      [status, paymentStatus],
    );

  it.each<[string, () => Promise<unknown>]>([
    ['orders_status_check', () => order('SHIPPED', null)],
    ['orders_payment_status', () => order('PENDING', 'REFUNDED')],
    [
      'audit_events_outcome_check',
      () =>
        service.query(
          "INSERT INTO audit_events (id, occurred_at, action, outcome) VALUES (gen_random_uuid(), now(), 'a', 'lost')",
        ),
    ],
  ])('may write no state that there is not: %s', async (constraint, write) => {
    await expect(write()).rejects.toMatchObject({ code: '23514', constraint });
  });

  it('has no right beyond its tables', async () => {
    const [role] = await database.query(
      `SELECT rolsuper, rolcreaterole, rolcreatedb, rolreplication, rolbypassrls, rolcanlogin,
              has_schema_privilege('order_service', 'public', 'CREATE') AS public_create,
              has_schema_privilege('order_service', 'graphile_worker', 'CREATE') AS jobs_create,
              has_database_privilege('order_service', current_database(), 'CREATE, TEMP') AS database_create,
              (SELECT count(*)::int FROM pg_class WHERE relowner = pg_roles.oid) AS owned,
              (SELECT count(*)::int FROM pg_auth_members WHERE member = pg_roles.oid) AS memberships,
              (SELECT count(*)::int FROM pg_sequence
               WHERE has_sequence_privilege('order_service', seqrelid, 'USAGE, SELECT, UPDATE')) AS sequences
       FROM pg_roles WHERE rolname = 'order_service'`,
    );
    expect(new Set(Object.values(role ?? {}))).toEqual(new Set([false, 0]));
  });

  it.each([
    'DROP TABLE orders',
    'ALTER TABLE orders ADD COLUMN x text',
    'ALTER TABLE outbox DISABLE TRIGGER ALL',
    'TRUNCATE orders CASCADE',
    'CREATE TABLE mine (id int)',
    'CREATE TEMP TABLE mine (id int)',
    'CREATE SCHEMA mine',
    'CREATE INDEX ON orders (status)',
    'CREATE FUNCTION mine() RETURNS int LANGUAGE sql AS $$ SELECT 1 $$',
    "UPDATE cursor_keys SET key = ''",
    'DELETE FROM migrations',
    'UPDATE inbox SET consumed_at = now()',
    'DELETE FROM payments',
    'DELETE FROM outbox_parked',
    "UPDATE audit_events SET client_id = 'nobody'",
    'DELETE FROM audit_events',
    'TRUNCATE audit_events',
    'DELETE FROM audit_blocks',
    "UPDATE audit_blocks SET mac = ''",
    'DROP SCHEMA graphile_worker CASCADE',
    "SELECT setval('outbox_position_seq', 1)",
    'CREATE ROLE mine',
    'SET ROLE postgres',
    "COPY orders TO PROGRAM 'cat'",
    "SELECT pg_read_file('postgresql.conf')",
  ])('is refused: %s', async (statement) => {
    const outcome = await service.query(statement).then(
      () => 'done',
      (error: { code?: string }) => error.code,
    );
    expect(outcome).toBe('42501');
  });
});

describe('npm run migrate on a server of its own', () => {
  const dataDir = path.join(mkdtempSync(path.join(tmpdir(), 'order-roles-')), 'postgres');
  let postgres: PostgresServer;

  beforeAll(async () => {
    chmodSync(path.dirname(dataDir), 0o755);
    postgres = await startPostgres({ dataDir, port: await freePort(), settings: ['fsync=off'] });
  });
  afterAll(async () => {
    await postgres.stop();
    rmSync(path.dirname(dataDir), { recursive: true, force: true });
  });

  const runAs = async (url: string, statements: string) => {
    const client = new Client(url);
    await client.connect();
    return client.query(statements).finally(() => client.end());
  };
  const migrateTo = (url: string) => migrate(loadConfig(SERVICE_NAME, environment({ DATABASE_URL: url })));

  it('says in one line that it may not create the role, before it changes anything', async () => {
    await runAs(postgres.url('postgres'), "CREATE ROLE weak LOGIN PASSWORD 'weak'");
    await runAs(postgres.url('postgres'), 'CREATE DATABASE weak OWNER weak');
    await expect(migrateTo(postgres.url('weak', 'weak'))).rejects.toThrow(
      /^The role order_service is missing, and weak may not create it\. Have it created: CREATE ROLE order_service NOLOGIN$/,
    );
    const { rows } = await runAs(postgres.url('weak'), "SELECT FROM pg_class WHERE relname = 'orders'");
    expect(rows).toEqual([]);
  });

  it('creates the role once when several databases are migrated at the same time', async () => {
    const names = ['a', 'b', 'c', 'd'];
    for (const name of names) await postgres.createDatabase(name);
    const runs = await Promise.all(names.map((name) => migrateTo(postgres.url(name))));
    expect(runs.every((made) => made.length > 0)).toBe(true);
  });

  it('lets no login in but the service’s into a database of the sandbox', async () => {
    await runAs(postgres.url('postgres'), "CREATE ROLE stranger LOGIN PASSWORD 'stranger'");
    await postgres.createLogin('service', 'order_service', 'a');
    await expect(runAs(postgres.url('a', 'service'), 'SELECT')).resolves.toBeDefined();
    await expect(runAs(postgres.url('a', 'stranger'), 'SELECT')).rejects.toMatchObject({ code: '42501' });
  });

  it.each([
    ['the operators’ guide sets', 'docs/operations.md', 'change-me', 'change-me-too'],
    ['compose sets', 'compose/postgres.sql', 'local-only-owner', 'local-only-service'],
  ])('leaves the service what it needs as %s the roles up, and nobody else anything', async (_, file, ...passwords) => {
    const text = readFileSync(file, 'utf8');
    const guide = /```sql\n([\s\S]*?)```/.exec(text)?.[1] ?? text;
    for (const name of ['a', 'b', 'c', 'd', 'orders'])
      await runAs(postgres.url('postgres'), `DROP DATABASE IF EXISTS ${name}`);
    await runAs(postgres.url('postgres'), 'DROP ROLE IF EXISTS order_service, orders_owner, orders_service');
    for (const statement of guide.split(/;\n/)) await runAs(postgres.url('postgres'), statement);

    const owner = postgres.url('orders').replace('postgres:postgres', `orders_owner:${passwords[0]}`);
    const login = postgres.url('orders').replace('postgres:postgres', `orders_service:${passwords[1]}`);
    await expect(runAs(postgres.url('orders', 'stranger'), 'SELECT')).rejects.toMatchObject({ code: '42501' });
    expect((await migrateTo(owner)).length).toBeGreaterThan(0);
    const { rows } = await runAs(login, 'SELECT name FROM migrations');
    expect(rows.length).toBeGreaterThan(0);

    await runAs(postgres.url('orders'), 'CREATE TABLE of_a_superuser (id int)');
    await runAs(owner, 'CREATE TABLE of_long_ago (id serial)');
    await runAs(owner, 'GRANT ALL ON cursor_keys, of_long_ago, of_long_ago_id_seq TO order_service');
    await runAs(owner, 'GRANT CREATE ON SCHEMA public TO order_service');
    const statements = [
      'DELETE FROM cursor_keys WHERE false',
      'SELECT FROM of_long_ago',
      "SELECT nextval('of_long_ago_id_seq')",
      'CREATE TABLE mine (); DROP TABLE mine',
    ];
    for (const statement of statements) await runAs(login, statement);
    await migrateTo(owner);
    for (const statement of statements) await expect(runAs(login, statement)).rejects.toThrow('permission denied');
  });
});
