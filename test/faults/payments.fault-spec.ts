import { type Admin, Kafka, logLevel } from 'kafkajs';
import { Client } from 'pg';
import { ORDERS_TOPIC } from '../../apps/order-service/src/orders-topic';
import { type KafkaBroker, startKafkaOnJvm } from '../../apps/sandbox/src/kafka';
import { type ServiceProcess, spawnService } from '../support/child';
import { anOrder, type Api, api, fetchToken } from '../support/client';
import { createDatabase, PATIENT, type TestDatabase } from '../support/database';
import { untilLockIsAwaited } from '../support/lock-wait';
import { brokerOptions, createOrdersTopics } from '../support/own-broker';
import { PaymentGate } from '../support/payment-gate';
import { describeWithOwnBroker, Topic } from '../support/topic';
import { until } from '../support/until';

const GROUP = 'payment-faults';

interface Worker extends ServiceProcess {
  /** By which the payment API knows it. */
  readonly name: string;
}

/** Each test kills a worker with SIGKILL at one step between an order's event and the end of its payment. */
describeWithOwnBroker('Between an event and a payment', () => {
  let database: TestDatabase;
  let broker: KafkaBroker;
  let topic: Topic;
  let admin: Admin;
  let gate: PaymentGate;
  let server: ServiceProcess;
  let orders: Api;
  const workers = new Set<Worker>();
  let spawned = 0;
  const sessions = new Set<Client>();

  beforeAll(async () => {
    database = await createDatabase();
    broker = await startKafkaOnJvm(await brokerOptions());
    const settings = { DATABASE_URL: database.url, KAFKA_BROKERS: broker.address };
    await createOrdersTopics(settings);
    topic = await Topic.read(broker.address);
    admin = new Kafka({ brokers: [broker.address], logLevel: logLevel.NOTHING }).admin();
    await admin.connect();
    gate = await PaymentGate.start();
    server = await spawnService({ ...settings, ROLES: 'api', LOG_LEVEL: 'warn' });
    orders = api(server.url, await fetchToken('order-orchestrator'));
  });

  afterEach(async () => {
    await Promise.all([...sessions].map(release));
    gate.liftAll();
  });

  afterAll(async () => {
    await Promise.all([server, ...workers].map((service) => service.end('SIGKILL')));
    await gate.stop();
    await admin.disconnect();
    await topic.close();
    await broker.stop();
    await database.drop();
  });

  async function spawnWorker(): Promise<Worker> {
    const name = `worker-${(spawned += 1)}`;
    const service = await spawnService({
      DATABASE_URL: database.url + PATIENT,
      PAYMENT_API_ATTEMPT_TIMEOUT_MS: '60000',
      PAYMENT_API_DEADLINE_MS: '60000',
      PAYMENT_API_URL: gate.urlFor(name),
      KAFKA_BROKERS: broker.address,
      KAFKA_CONSUMER_GROUP: GROUP,
      ROLES: 'worker',
      LOG_LEVEL: 'warn',
    });
    const worker = { ...service, name };
    workers.add(worker);
    return worker;
  }

  /** The one that the test before left running, so that not every test has to start two. */
  const someWorker = async () => [...workers][0] ?? (await spawnWorker());

  async function kill(worker: Worker): Promise<void> {
    workers.delete(worker);
    await worker.end('SIGKILL');
  }

  async function place(customerId: string): Promise<string> {
    const { status, body } = await orders('/v1/orders', { body: anOrder({ customerId }) });
    expect(status).toBe(201);
    return body.orderId as string;
  }

  /** The order's payment is made, and its answer held back until it is lifted. */
  async function placeAndHold(customerId: string) {
    const { held, lift } = gate.hold(customerId, 'after');
    const orderId = await place(customerId);
    await until('the call', () => held.length === 1);
    return { orderId, lift };
  }

  const find = async (orderId: string) => (await orders(`/v1/orders/${orderId}`)).body;

  /** A session beside the service, which ends with the test at the latest. */
  async function connect(): Promise<Client> {
    const session = new Client(database.superuserUrl);
    sessions.add(session);
    await session.connect();
    await session.query('BEGIN');
    return session;
  }

  async function release(session: Client): Promise<void> {
    sessions.delete(session);
    await session.end();
  }

  const waiting = (statement: string) => untilLockIsAwaited(database, statement);

  const ended = (pids: number[]) =>
    until('the end of the session', async () => {
      const rows = await database.query('SELECT FROM pg_stat_activity WHERE pid = ANY($1)', [pids]);
      return rows.length === 0;
    });

  const jobsOf = (orderId: string) =>
    database.query<{ id: string; locked_by: string | null }>(
      "SELECT id, locked_by FROM graphile_worker._private_jobs WHERE payload->>'orderId' = $1",
      [orderId],
    );

  async function inboxOf(orderId: string) {
    const [event] = topic.about(orderId);
    return database.query('SELECT FROM inbox WHERE event_id = $1', [event?.headers['ce_id']]);
  }

  /** Waits until nobody has anything left to do for the order. @returns its events: what they are called, and which. */
  async function eventsOf(orderId: string) {
    await until(`the last job of ${orderId}`, async () => (await jobsOf(orderId)).length === 0);
    const [{ count } = { count: 0 }] = await database.query<{ count: number }>(
      'SELECT count(*)::integer FROM outbox WHERE aggregateid = $1',
      [orderId],
    );
    const ids = () => new Set(topic.about(orderId).map(({ headers }) => headers['ce_id']));
    await until(`${count} events of ${orderId}`, () => ids().size >= count);
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

  it('a worker killed before it asked for the payment leaves that to the next', async () => {
    const worker = await someWorker();
    const [jobs, payments] = await Promise.all([connect(), connect()]);
    await jobs.query('LOCK TABLE graphile_worker._private_jobs IN SHARE MODE');
    const orderId = await place('killed_before_call');
    await waiting('%add_job%');
    // Next in the queue: it has the table when the consumer commits, and before the job can begin.
    const locked = payments.query('LOCK TABLE payments IN ACCESS EXCLUSIVE MODE');
    await waiting('LOCK TABLE payments%');
    await release(jobs);
    await locked;
    await waiting('%FROM payments WHERE order_id%');
    await kill(worker);
    expect(await jobsOf(orderId)).toEqual([expect.objectContaining({ locked_by: expect.any(String) })]);
    await release(payments);
    expect(timesAsked(orderId)).toEqual([]);

    await spawnWorker();
    await expectPaidOnce(orderId);
    expect(timesAsked(orderId)).toEqual([1]);
  });

  it('a worker killed during the call leaves it open whether there is a payment; the next asks with the same key', async () => {
    const worker = await someWorker();
    const barriers = [gate.hold('killed_uncharged', 'before'), gate.hold('killed_charged', 'after')];
    const [uncharged = '', charged = ''] = await Promise.all(['killed_uncharged', 'killed_charged'].map(place));
    await until('the calls', () => barriers.every(({ held }) => held.length === 1));
    await kill(worker);
    gate.liftAll();
    expect(await gate.paymentsOf(uncharged)).toHaveLength(0);
    expect(await gate.paymentsOf(charged)).toHaveLength(1);
    for (const orderId of [uncharged, charged]) expect((await find(orderId)).status).toBe('PENDING');

    await spawnWorker();
    for (const orderId of [uncharged, charged]) {
      await expectPaidOnce(orderId);
      expect(timesAsked(orderId)).toEqual([2]);
    }
  });

  it('a worker killed after the answer and before the commit has told nobody; the next hears the same answer', async () => {
    const worker = await someWorker();
    const { orderId, lift } = await placeAndHold('killed_before_commit');
    const other = await connect();
    await other.query("SELECT FROM orders WHERE customer_id = 'killed_before_commit' FOR UPDATE");
    lift();
    const pids = await waiting('%UPDATE orders%');
    await kill(worker);
    // It is one statement, which PostgreSQL would finish for a client that died.
    await database.query('SELECT pg_terminate_backend(pid) FROM unnest($1::integer[]) AS pid', [pids]);
    await release(other);
    await ended(pids);
    expect((await find(orderId)).status).toBe('PENDING');
    expect(await gate.paymentsOf(orderId)).toHaveLength(1);

    await spawnWorker();
    await expectPaidOnce(orderId);
    expect(timesAsked(orderId)).toEqual([2]);
  });

  it('a worker killed after the commit and before the job was done leaves a job that asks nobody', async () => {
    const worker = await someWorker();
    const { orderId, lift } = await placeAndHold('killed_after_commit');
    const other = await connect();
    const [job] = await jobsOf(orderId);
    await other.query('SELECT FROM graphile_worker._private_jobs WHERE id = $1 FOR UPDATE', [job?.id]);
    lift();
    const pids = await waiting('delete from%_private_jobs%');
    expect((await find(orderId)).status).toBe('CONFIRMED');
    await kill(worker);
    // Left alone, PostgreSQL would finish the statement of the client that died.
    await database.query('SELECT pg_terminate_backend(pid) FROM unnest($1::integer[]) AS pid', [pids]);
    await ended(pids);
    await release(other);
    expect(await jobsOf(orderId)).toEqual([job]);

    await spawnWorker();
    await expectPaidOnce(orderId);
    expect(timesAsked(orderId)).toEqual([1]);
  });

  it('a worker killed before it committed the offset has the event delivered again, to no effect', async () => {
    const worker = await someWorker();
    await until('the offsets of all that was before', async () => {
      const [committed] = await admin.fetchOffsets({ groupId: GROUP, topics: [ORDERS_TOPIC] });
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
    await kill(worker);
    await release(other);
    await until('the event on the topic', () => topic.about(orderId).length > 0);
    await until('the commit', async () => (await inboxOf(orderId)).length === 1);
    await database.query('DROP TRIGGER wait_for_test ON inbox; DROP FUNCTION wait_for_test');

    const next = await spawnWorker();
    const metric = /^events_consumed_total\{type="order.created",outcome="duplicate"\} [1-9]/m;
    const again = async () => metric.test((await api(next.url)('/metrics')).text);
    await until('the event once more', again);
    await expectPaidOnce(orderId);
    expect(timesAsked(orderId)).toEqual([1]);
  });

  it('a worker killed within the transaction of an event leaves nothing of it; the next has the event', async () => {
    const worker = await someWorker();
    const other = await connect();
    await other.query('LOCK TABLE payments IN SHARE MODE');
    const orderId = await place('killed_in_transaction');
    const pids = await waiting('%INSERT INTO payments%');
    await kill(worker);
    await release(other);
    await ended(pids);
    await until('the event on the topic', () => topic.about(orderId).length > 0);
    expect(await inboxOf(orderId)).toHaveLength(0);
    expect(await jobsOf(orderId)).toHaveLength(0);

    await spawnWorker();
    await until('the event', async () => (await inboxOf(orderId)).length === 1);
    await expectPaidOnce(orderId);
  });

  it('an order cancelled after its worker was killed with the payment in the air has the payment voided', async () => {
    const worker = await someWorker();
    const { orderId, lift } = await placeAndHold('killed_and_cancelled');
    await kill(worker);
    lift();
    const { status } = await orders(`/v1/orders/${orderId}/cancel`, { method: 'POST' });
    expect(status).toBe(200);

    await spawnWorker();
    const isVoided = async () => (await find(orderId)).payment?.status === 'VOIDED';
    await until('the void', isVoided);
    expect(await eventsOf(orderId)).toEqual({ count: 2, told: ['1 order.created', '2 order.cancelled'] });
    const payments = await gate.paymentsOf(orderId);
    expect(payments).toEqual([expect.objectContaining({ orderId, status: 'VOIDED' })]);
    expect(await find(orderId)).toMatchObject({
      status: 'CANCELLED',
      payment: { paymentId: payments[0]?.paymentId, status: 'VOIDED' },
    });
    expect(timesAsked(orderId)).toHaveLength(1);
  });

  it('workers that come and go in a stream of orders have each order paid once', async () => {
    const BATCH = 20;
    const placeBatch = async () => {
      const orderIds: string[] = [];
      for (let n = 0; n < BATCH; n += 1) orderIds.push(await place('stream'));
      return orderIds;
    };
    await Promise.all([someWorker(), spawnWorker()]);
    const { held, lift } = gate.hold('stream', 'after');
    const orderIds = await placeBatch();
    await until('the calls', () => held.length === BATCH);
    const victim = [...workers].find(({ name }) => name === held[0]?.caller);
    await spawnWorker();
    const [batch] = await Promise.all([
      placeBatch(),
      until('a group of three', async () => {
        const [group] = (await admin.describeGroups([GROUP])).groups;
        return group?.state === 'Stable' && group.members.length === 3;
      }),
    ]);
    const rest = placeBatch();
    if (victim) await kill(victim);
    lift();
    orderIds.push(...batch, ...(await rest));

    for (const orderId of orderIds) {
      await until(`the end of ${orderId}`, async () => (await find(orderId)).status !== 'PENDING');
      await expectPaidOnce(orderId);
      expect(timesAsked(orderId)).toHaveLength(1); // one key
    }
    expect(orderIds.flatMap(timesAsked)).toContain(2); // by the one who died and by another
  });
});
