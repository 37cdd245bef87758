import { chmodSync, mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { loadConfig } from '@platform/config';
import { createTopics, ORDERS_TOPIC } from '@platform/messaging';
import { type Admin, Kafka, logLevel } from 'kafkajs';
import { Client } from 'pg';
import { type KafkaBroker, startKafkaOnJvm } from '../../apps/sandbox/src/kafka';
import { freePort } from '../../apps/sandbox/src/ports';
import { type ServiceProcess, spawnService } from '../support/child';
import { anOrder, type Api, api, fetchToken } from '../support/client';
import { createDatabase, type TestDatabase } from '../support/database';
import { environment } from '../support/environment';
import { PaymentGate } from '../support/payment-gate';
import { describeWithOwnBroker, Topic } from '../support/topic';
import { until } from '../support/until';

/** A new process, then at most 7.5 s until it frees the jobs of the dead one; and the machine may be busy. */
const RECOVERY_MS = 40_000;
/** The broker waits 10 s for a member that died before another gets its partitions. */
const REJOIN_MS = 40_000;
const TEST_MS = 90_000;

/** Each test kills a worker with SIGKILL at one step between an order's event and the end of its payment. */
describeWithOwnBroker('Between an event and a payment', () => {
  let database: TestDatabase;
  let broker: KafkaBroker;
  let topic: Topic;
  let admin: Admin;
  let gate: PaymentGate;
  let server: ServiceProcess;
  let orders: Api;
  let group: string;
  let groups = 0;
  const running = new Set<ServiceProcess>();
  const sessions = new Set<Client>();

  beforeAll(async () => {
    database = await createDatabase();
    const dataDir = mkdtempSync(path.join(tmpdir(), 'payment-faults-'));
    chmodSync(dataDir, 0o755);
    broker = await startKafkaOnJvm({
      port: await freePort(),
      controllerPort: await freePort(),
      dataDir,
      libDir: path.resolve('.sandbox/kafka-jars'),
    });
    const settings = { DATABASE_URL: database.url, KAFKA_BROKERS: broker.address };
    const { kafka } = loadConfig(environment(settings));
    if (kafka) await createTopics(kafka, { partitions: 3, replicationFactor: 1 });
    topic = await Topic.read(broker.address);
    admin = new Kafka({ brokers: [broker.address], logLevel: logLevel.NOTHING }).admin();
    await admin.connect();
    gate = await PaymentGate.start();
    server = await spawnService({ ...settings, ROLES: 'api', LOG_LEVEL: 'warn' });
    orders = api(server.url, await fetchToken('order-orchestrator'));
  }, 120_000);

  beforeEach(() => {
    // Not that of the test before: this one's workers would wait for the members that it killed.
    group = `payment-faults-${(groups += 1)}`;
  });

  afterEach(async () => {
    await Promise.all([...running].map((service) => service.end('SIGKILL')));
    running.clear();
    await Promise.all([...sessions].map((session) => session.end()));
    sessions.clear();
    gate.liftAll();
  });

  afterAll(async () => {
    await server.end('SIGKILL');
    await gate.stop();
    await admin.disconnect();
    await topic.close();
    await broker.stop();
    await database.drop();
  });

  async function spawnWorker(name = 'worker'): Promise<ServiceProcess> {
    const worker = await spawnService({
      // What a test keeps waiting does not give up, however slow the machine is.
      DATABASE_URL: `${database.url}?statement_timeout=60000&query_timeout=60000`,
      KAFKA_BROKERS: broker.address,
      KAFKA_CONSUMER_GROUP: group,
      ROLES: 'worker',
      LOG_LEVEL: 'warn',
      PAYMENT_API_URL: gate.urlFor(name),
      PAYMENT_API_ATTEMPT_TIMEOUT_MS: '60000',
      PAYMENT_API_DEADLINE_MS: '60000',
    });
    running.add(worker);
    return worker;
  }

  async function place(customerId: string): Promise<string> {
    const { status, body } = await orders('/v1/orders', { body: anOrder({ customerId }) });
    expect(status).toBe(201);
    return body.orderId as string;
  }

  const find = async (orderId: string) => (await orders(`/v1/orders/${orderId}`)).body;

  /** A session beside the service, which ends with the test at the latest. */
  async function connect(): Promise<Client> {
    const session = new Client(database.url);
    sessions.add(session);
    await session.connect();
    await session.query('BEGIN');
    return session;
  }

  async function release(session: Client): Promise<void> {
    sessions.delete(session);
    await session.end();
  }

  /** @returns the backends that wait for a lock with such a statement */
  const waiting = (statement: string) =>
    until(`the wait of ${statement}`, async () => {
      const rows = await database.query<{ pid: number }>(
        `SELECT pid FROM pg_stat_activity
         WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE $1`,
        [statement],
      );
      return rows.length > 0 && rows.map(({ pid }) => pid);
    });

  const ended = (pids: number[]) =>
    until('the end of the session', async () => {
      const rows = await database.query('SELECT FROM pg_stat_activity WHERE pid = ANY($1)', [pids]);
      return rows.length === 0;
    });

  const jobsOf = (orderId: string) =>
    database.query<{ id: string; locked_by: string | null }>(
      // One that has no attempts left was replaced while it ran, and is never run again.
      `SELECT id, locked_by FROM graphile_worker._private_jobs
       WHERE payload->>'orderId' = $1 AND attempts < max_attempts`,
      [orderId],
    );

  async function inboxOf(orderId: string) {
    const [event] = topic.about(orderId);
    return database.query('SELECT FROM inbox WHERE event_id = $1', [event?.headers['ce_id']]);
  }

  /** Waits until nobody has anything left to do for the order. @returns its events: what they are called, and which. */
  async function eventsOf(orderId: string, timeoutMs = RECOVERY_MS) {
    await until(`the last job of ${orderId}`, async () => (await jobsOf(orderId)).length === 0, timeoutMs);
    const [{ count } = { count: 0 }] = await database.query<{ count: number }>(
      'SELECT count(*)::integer FROM outbox WHERE aggregateid = $1',
      [orderId],
    );
    const ids = () => new Set(topic.about(orderId).map(({ headers }) => headers['ce_id']));
    await until(`${count} events of ${orderId}`, () => ids().size >= count, 30_000);
    const told = topic.about(orderId).map(({ headers }) => `${headers['ce_sequence']} ${headers['ce_type']}`);
    return { count: ids().size, told: [...new Set(told)] };
  }

  async function expectPaidOnce(orderId: string): Promise<void> {
    expect(await eventsOf(orderId)).toEqual({ count: 2, told: ['1 order.created', '2 order.confirmed'] });
    const payments = await gate.paymentsOf(orderId);
    expect(payments).toEqual([expect.objectContaining({ orderId, status: 'AUTHORIZED' })]);
    expect(await find(orderId)).toMatchObject({
      status: 'CONFIRMED',
      payment: { paymentId: payments[0]?.paymentId, status: 'AUTHORIZED' },
    });
  }

  const timesAsked = (orderId: string) => Object.values(gate.chargesOf(orderId));

  it(
    'a worker killed before it asked for the payment leaves that to the next',
    async () => {
      const worker = await spawnWorker();
      const [jobs, payments] = await Promise.all([connect(), connect()]);
      await jobs.query('LOCK TABLE graphile_worker._private_jobs IN SHARE MODE');
      const orderId = await place('killed_before_call');
      await waiting('%add_job%');
      // Next in the queue: it has the table when the consumer commits, and before the job can begin.
      const locked = payments.query('LOCK TABLE payments IN ACCESS EXCLUSIVE MODE');
      await waiting('LOCK TABLE payments%');
      await release(jobs);
      await locked;
      await waiting('%FROM payments%');
      await worker.end('SIGKILL');
      expect(await jobsOf(orderId)).toEqual([expect.objectContaining({ locked_by: expect.any(String) })]);
      await release(payments);
      expect(timesAsked(orderId)).toEqual([]);

      await spawnWorker();
      await expectPaidOnce(orderId);
      expect(timesAsked(orderId)).toEqual([1]);
    },
    TEST_MS,
  );

  it(
    'a worker killed during the call leaves it open whether there is a payment; the next asks with the same key',
    async () => {
      const worker = await spawnWorker();
      const barriers = [gate.hold('killed_uncharged', 'before'), gate.hold('killed_charged', 'after')];
      const [uncharged = '', charged = ''] = await Promise.all(['killed_uncharged', 'killed_charged'].map(place));
      await until('the calls', () => barriers.every(({ held }) => held.length === 1));
      await worker.end('SIGKILL');
      gate.liftAll();
      expect(await gate.paymentsOf(uncharged)).toHaveLength(0);
      expect(await gate.paymentsOf(charged)).toHaveLength(1);
      for (const orderId of [uncharged, charged]) expect((await find(orderId)).status).toBe('PENDING');

      await spawnWorker();
      for (const orderId of [uncharged, charged]) {
        await expectPaidOnce(orderId);
        expect(timesAsked(orderId)).toEqual([2]);
      }
    },
    TEST_MS,
  );

  it(
    'a worker killed after the answer and before the commit has told nobody; the next hears the same answer',
    async () => {
      const worker = await spawnWorker();
      const { held, lift } = gate.hold('killed_before_commit', 'after');
      const orderId = await place('killed_before_commit');
      await until('the call', () => held.length === 1);
      const other = await connect();
      await other.query("SELECT FROM orders WHERE customer_id = 'killed_before_commit' FOR UPDATE");
      lift();
      const pids = await waiting('%FROM "orders"%FOR UPDATE%');
      await worker.end('SIGKILL');
      await release(other);
      await ended(pids);
      expect((await find(orderId)).status).toBe('PENDING');
      expect(await gate.paymentsOf(orderId)).toHaveLength(1);

      await spawnWorker();
      await expectPaidOnce(orderId);
      expect(timesAsked(orderId)).toEqual([2]);
    },
    TEST_MS,
  );

  it(
    'a worker killed after the commit and before the job was done leaves a job that asks nobody',
    async () => {
      const worker = await spawnWorker();
      const { held, lift } = gate.hold('killed_after_commit', 'after');
      const orderId = await place('killed_after_commit');
      await until('the call', () => held.length === 1);
      const other = await connect();
      const [job] = await jobsOf(orderId);
      await other.query('SELECT FROM graphile_worker._private_jobs WHERE id = $1 FOR UPDATE', [job?.id]);
      lift();
      const pids = await waiting('delete from%_private_jobs%');
      expect((await find(orderId)).status).toBe('CONFIRMED');
      await worker.end('SIGKILL');
      // Left alone, PostgreSQL would finish the statement of the client that died.
      await database.query('SELECT pg_terminate_backend(pid) FROM unnest($1::integer[]) AS pid', [pids]);
      await ended(pids);
      await release(other);
      expect(await jobsOf(orderId)).toEqual([job]);

      await spawnWorker();
      await expectPaidOnce(orderId);
      expect(timesAsked(orderId)).toEqual([1]);
    },
    TEST_MS,
  );

  it(
    'a worker killed before it committed the offset has the event delivered again, to no effect',
    async () => {
      const worker = await spawnWorker();
      await until('the offsets of all that was before', async () => {
        const [committed] = await admin.fetchOffsets({ groupId: group, topics: [ORDERS_TOPIC] });
        const ends = await admin.fetchTopicOffsets(ORDERS_TOPIC);
        return ends.every(({ partition, high }) => {
          const offset = committed?.partitions.find((entry) => entry.partition === partition)?.offset;
          return high === '0' || offset === high;
        });
      });
      // Stops the consumer within its COMMIT, which then happens without it.
      await database.query(`
        CREATE FUNCTION wait_for_test() RETURNS trigger LANGUAGE plpgsql AS
          'BEGIN PERFORM pg_advisory_xact_lock_shared(1); RETURN NULL; END';
        CREATE CONSTRAINT TRIGGER wait_for_test AFTER INSERT ON inbox DEFERRABLE INITIALLY DEFERRED
          FOR EACH ROW EXECUTE FUNCTION wait_for_test()`);
      const other = await connect();
      await other.query('SELECT pg_advisory_xact_lock(1)');
      const orderId = await place('killed_before_offset');
      await waiting('COMMIT');
      await worker.end('SIGKILL');
      await release(other);
      await until('the event on the topic', () => topic.about(orderId).length > 0);
      await until('the commit', async () => (await inboxOf(orderId)).length === 1);
      await database.query('DROP TRIGGER wait_for_test ON inbox; DROP FUNCTION wait_for_test');

      const next = await spawnWorker();
      const metric = /^events_consumed_total\{type="order.created",outcome="duplicate"\} [1-9]/m;
      const again = async () => metric.test((await api(next.url)('/metrics')).text);
      await until('the event once more', again, REJOIN_MS);
      await expectPaidOnce(orderId);
      expect(timesAsked(orderId)).toEqual([1]);
    },
    TEST_MS,
  );

  it(
    'a worker killed within the transaction of an event leaves nothing of it; the next has the event',
    async () => {
      const worker = await spawnWorker();
      const other = await connect();
      await other.query('LOCK TABLE payments IN SHARE MODE');
      const orderId = await place('killed_in_transaction');
      const pids = await waiting('INSERT INTO payments%');
      await worker.end('SIGKILL');
      await release(other);
      await ended(pids);
      await until('the event on the topic', () => topic.about(orderId).length > 0);
      expect(await inboxOf(orderId)).toHaveLength(0);
      expect(await jobsOf(orderId)).toHaveLength(0);

      await spawnWorker();
      await until('the event', async () => (await inboxOf(orderId)).length === 1, REJOIN_MS);
      await expectPaidOnce(orderId);
    },
    TEST_MS,
  );

  it(
    'an order cancelled after its worker was killed with the payment in the air has the payment voided',
    async () => {
      const worker = await spawnWorker();
      const { held, lift } = gate.hold('killed_and_cancelled', 'after');
      const orderId = await place('killed_and_cancelled');
      await until('the call', () => held.length === 1);
      await worker.end('SIGKILL');
      lift();
      const { status } = await orders(`/v1/orders/${orderId}/cancel`, { method: 'POST' });
      expect(status).toBe(200);

      await spawnWorker();
      const isVoided = async () => (await find(orderId)).payment?.status === 'VOIDED';
      await until('the void', isVoided, RECOVERY_MS);
      expect(await eventsOf(orderId)).toEqual({ count: 2, told: ['1 order.created', '2 order.cancelled'] });
      const payments = await gate.paymentsOf(orderId);
      expect(payments).toEqual([expect.objectContaining({ orderId, status: 'VOIDED' })]);
      expect(await find(orderId)).toMatchObject({
        status: 'CANCELLED',
        payment: { paymentId: payments[0]?.paymentId, status: 'VOIDED' },
      });
      expect(timesAsked(orderId)).toHaveLength(1);
    },
    TEST_MS,
  );

  it(
    'workers that come and go in a stream of orders have each order paid once',
    async () => {
      const BATCH = 20;
      const names = ['first', 'second'];
      const workers = await Promise.all(names.map(spawnWorker));
      const members = (count: number) =>
        until(
          `a group of ${count}`,
          async () => {
            const [{ state, members } = { state: '', members: [] }] = (await admin.describeGroups([group])).groups;
            return state === 'Stable' && members.length === count;
          },
          REJOIN_MS,
        );
      const placeBatch = async () => {
        const orderIds: string[] = [];
        for (let n = 0; n < BATCH; n += 1) orderIds.push(await place('stream'));
        return orderIds;
      };

      const { held, lift } = gate.hold('stream', 'after');
      const orderIds = await placeBatch();
      await until('the calls', () => held.length === BATCH, REJOIN_MS);
      await spawnWorker('third');
      const [batch] = await Promise.all([placeBatch(), members(3)]);
      const rest = placeBatch();
      await workers[names.indexOf(held[0]?.caller ?? '')]?.end('SIGKILL');
      lift();
      orderIds.push(...batch, ...(await rest));

      for (const orderId of orderIds) {
        await until(`the end of ${orderId}`, async () => (await find(orderId)).status !== 'PENDING', REJOIN_MS);
        await expectPaidOnce(orderId);
        expect(Object.keys(gate.chargesOf(orderId))).toHaveLength(1);
      }
      expect(orderIds.flatMap(timesAsked)).toContain(2); // by one who died and by one who did not
    },
    TEST_MS,
  );
});
