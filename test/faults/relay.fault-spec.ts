import { setTimeout as delay } from 'node:timers/promises';
import { Client } from 'pg';
import { type KafkaBroker, startKafkaOnJvm } from '../../apps/sandbox/src/kafka';
import { type ServiceProcess, spawnService } from '../support/child';
import { anOrder, type Answer, api, apiOnce, fetchToken } from '../support/client';
import { createDatabase, PATIENT, type TestDatabase } from '../support/database';
import { untilLockIsAwaited } from '../support/lock-wait';
import { brokerOptions, createOrdersTopics } from '../support/own-broker';
import { describeWithOwnBroker, Topic } from '../support/topic';
import { until } from '../support/until';

/** Each test kills something with SIGKILL at one step between a request and its event, and looks at what is left. */
describeWithOwnBroker('Between a request and its event', () => {
  let database: TestDatabase;
  let token: string;
  let broker: KafkaBroker;
  let startBroker: () => Promise<void>;
  let topic: Topic;
  const running = new Set<ServiceProcess>();

  beforeAll(async () => {
    database = await createDatabase();
    token = await fetchToken('order-orchestrator');
    const options = await brokerOptions();
    startBroker = async () => {
      broker = await startKafkaOnJvm(options);
    };
    await startBroker();
    await createOrdersTopics({ DATABASE_URL: database.url, KAFKA_BROKERS: broker.address });
    topic = await Topic.read(broker.address);
  });

  afterEach(async () => {
    await Promise.all([...running].map((service) => service.end('SIGKILL')));
    running.clear();
    // The test that kills it may have failed before it started it again.
    if (broker.process.signalCode) await startBroker();
  });

  afterAll(async () => {
    await topic.close();
    await broker.stop();
    await database.drop();
  });

  async function spawn(roles: string, url = database.url): Promise<ServiceProcess> {
    const service = await spawnService({
      DATABASE_URL: url,
      KAFKA_BROKERS: broker.address,
      ROLES: roles,
      LOG_LEVEL: 'warn',
    });
    running.add(service);
    return service;
  }

  const post = (service: ServiceProcess, body: object): Promise<Answer> =>
    api(service.url, token)('/v1/orders', { body });

  /** Without that of its payment, which comes by itself: of an order, the event of its creation alone. */
  const eventsOf = (orderId: string) =>
    topic.about(orderId).filter(({ headers }) => headers['ce_type'] !== 'order.confirmed');
  const eventOf = (orderId: string) => until(`the event of ${orderId}`, () => eventsOf(orderId)[0] ?? false);
  const published = async (orderId: string) => {
    const sql = 'SELECT FROM outbox WHERE aggregateid = $1 AND published_at IS NOT NULL';
    return (await database.query(sql, [orderId])).length > 0;
  };
  const ordersOf = (customerId: string) =>
    database.query<{ id: string }>('SELECT id FROM orders WHERE customer_id = $1', [customerId]);

  /** Keeps a table locked, so that whoever needs it stands still right there. */
  async function hold(table: string, mode: string): Promise<() => Promise<void>> {
    const client = new Client(database.superuserUrl);
    await client.connect();
    await client.query('BEGIN');
    await client.query(`LOCK TABLE ${table} IN ${mode} MODE`);
    return () => client.end();
  }

  /** Left alone, PostgreSQL would finish the statement of the client that died. */
  const terminate = (pids: number[]) =>
    database.query('SELECT pg_terminate_backend(pid) FROM unnest($1::integer[]) AS pid', [pids]);

  it('a process killed within the insert leaves no order, no key and no event; the retry makes one of each', async () => {
    const release = await hold('outbox', 'ACCESS EXCLUSIVE');
    const service = await spawn('api', database.url + PATIENT);
    const body = anOrder({ customerId: 'killed_in_insert' });
    const answer = post(service, body).catch(() => undefined);
    const pids = await untilLockIsAwaited(database, '%INTO idempotency_keys%');
    await service.end('SIGKILL');
    await terminate(pids);
    await release();
    expect(await answer).toBeUndefined();
    await until('the end of the session', async () => {
      const sessions =
        "SELECT FROM pg_stat_activity WHERE application_name = 'order-service' AND datname = current_database()";
      return (await database.query(sessions)).length === 0;
    });
    const counts = `SELECT (SELECT count(*)::int FROM orders) AS orders, (SELECT count(*)::int FROM outbox) AS events,
                           (SELECT count(*)::int FROM idempotency_keys) AS keys`;
    expect(await database.query(counts)).toEqual([{ orders: 0, events: 0, keys: 0 }]);

    const next = await spawn('api,worker');
    const { status, body: receipt } = await post(next, body);
    expect(status).toBe(201);
    expect(await ordersOf('killed_in_insert')).toHaveLength(1);
    await eventOf(receipt.orderId);
    expect(eventsOf(receipt.orderId)).toHaveLength(1);
  });

  it('a process killed after the commit and before the relay read leaves the event to the next', async () => {
    const service = await spawn('api');
    const { body: receipt } = await post(service, anOrder());
    await service.end('SIGKILL');
    expect(await published(receipt.orderId)).toBe(false);
    await spawn('worker');
    expect((await eventOf(receipt.orderId)).headers['ce_type']).toBe('order.created');
    await until('the mark', () => published(receipt.orderId));
  });

  it('a relay killed while it sends loses nothing', async () => {
    const service = await spawn('api');
    const { body: first } = await post(service, anOrder());
    const worker = await spawn('worker');
    await eventOf(first.orderId); // it is connected
    broker.process.kill('SIGSTOP');
    const { body: receipt } = await post(service, anOrder());
    await delay(500); // it has read the event and waits for the broker
    await worker.end('SIGKILL');
    broker.process.kill('SIGCONT');
    expect(await published(receipt.orderId)).toBe(false);
    await spawn('worker');
    await eventOf(receipt.orderId);
    await until('the mark', () => published(receipt.orderId));
    expect(new Set(eventsOf(receipt.orderId).map(({ headers }) => headers['ce_id'])).size).toBe(1);
  });

  it('a relay killed after it sent and before it marked sends the same event again', async () => {
    const service = await spawn('api');
    const { body: receipt } = await post(service, anOrder());
    const release = await hold('outbox', 'SHARE ROW EXCLUSIVE'); // reading goes on, marking waits
    const worker = await spawn('worker');
    await eventOf(receipt.orderId);
    const pids = await untilLockIsAwaited(database, '%UPDATE outbox%');
    await worker.end('SIGKILL');
    await terminate(pids);
    await release();
    await until('the end of its lanes', async () => {
      const held =
        "SELECT FROM pg_locks WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
      return (await database.query(held)).length === 0;
    });
    expect(await published(receipt.orderId)).toBe(false);
    await spawn('worker');
    await until('the mark', () => published(receipt.orderId));
    await until('the event once more', () => eventsOf(receipt.orderId).length >= 2);
    const [one, two] = eventsOf(receipt.orderId);
    expect({ ...two, offset: one?.offset }).toEqual(one);
  });

  it('an event that Kafka refuses within a batch is parked alone; all others of the batch arrive', async () => {
    const { Kafka, logLevel, ConfigResourceTypes } = await import('kafkajs');
    const admin = new Kafka({ brokers: [broker.address], logLevel: logLevel.NOTHING }).admin();
    await admin.connect();
    const limit = (bytes: string) =>
      admin.alterConfigs({
        validateOnly: false,
        resources: [
          {
            type: ConfigResourceTypes.TOPIC,
            name: 'orders.events',
            configEntries: [{ name: 'max.message.bytes', value: bytes }],
          },
        ],
      });
    await limit('20000');
    const ids = Array.from({ length: 9 }, (_, i) => `ord_refused_${i}`);
    await database.query(
      `INSERT INTO outbox (id, aggregatetype, aggregateid, type, payload, sequence)
       SELECT gen_random_uuid(), 'order', id, 'order.tested',
              json_build_object('a', CASE WHEN id = 'ord_refused_4' THEN repeat('x', 30000) END), 1
       FROM unnest($1::text[]) AS id`,
      [ids],
    );
    await spawn('worker');
    const others = ids.filter((id) => id !== 'ord_refused_4');
    await until('the others', async () => (await Promise.all(others.map(published))).every(Boolean));
    for (const id of others) await eventOf(id);
    expect(await published('ord_refused_4')).toBe(false);
    expect(await database.query('SELECT aggregateid FROM outbox_parked')).toEqual([{ aggregateid: 'ord_refused_4' }]);
    await limit('1000000');
    await admin.disconnect();
    // The broker takes the new limit a moment after it has said so; who comes before that is parked once more.
    const unparked = async () => {
      await database.query('DELETE FROM outbox_parked');
      return eventsOf('ord_refused_4').length > 0;
    };
    await until('the event that was refused', unparked);
  });

  it('with Kafka killed orders are accepted all the same, and the backlog drains when it returns', async () => {
    const service = await spawn('api,worker', database.url + PATIENT);
    const once = apiOnce(service.url, token);
    // Its payment API is down, so that no later event of it can be in the backlog.
    await eventOf((await post(service, anOrder({ customerId: 'cust_down' }))).body.orderId);
    const exit = new Promise((resolve) => broker.process.once('exit', resolve));
    broker.process.kill('SIGKILL');
    await exit;

    const answers = await Promise.all(Array.from({ length: 50 }, () => once('/v1/orders', { body: anOrder() })));
    expect(answers.map(({ status }) => status)).toEqual(Array.from({ length: 50 }, () => 201));
    const call = api(service.url);
    // Orders of the tests before may be paid meanwhile, and their events in it too.
    const backlog = async () => Number(/^outbox_backlog (\d+)$/m.exec((await call('/metrics')).text)?.[1]);
    await until('the backlog', async () => (await backlog()) >= 50);
    const kafka = async () => {
      const { status, body } = await call('/health/ready');
      expect(status).toBe(200); // whatever becomes of Kafka
      return body.details.kafka.status as string;
    };
    await until('the degradation', async () => (await kafka()) === 'degraded');

    await startBroker();
    for (const { body } of answers) await eventOf(body.orderId);
    await until('the drain', async () => (await backlog()) === 0);
    expect(await kafka()).toBe('up');
  });

  it('under load, with the service killed again and again, every order is accepted once and told', async () => {
    const CLIENTS = 8;
    const ORDERS_EACH = 40;
    const LEAST_KILLS = 3; // however quick the machine is
    const MOST_KILLS = 5; // however slow: each costs a start
    let service = await spawn('api,worker');
    let done = false;
    let kills = 0;
    const killer = (async () => {
      while (!done && kills < MOST_KILLS) {
        await delay(300 + Math.random() * 700);
        await service.end('SIGKILL');
        kills += 1;
        service = await spawn('api,worker');
      }
    })();
    const receipts: string[] = [];
    const clients = Array.from({ length: CLIENTS }, async (_, client) => {
      for (let n = 0; n < ORDERS_EACH || kills < LEAST_KILLS; n += 1) {
        const body = anOrder({ customerId: `storm_${client}_${n}` });
        const answer = await until(
          'an answer',
          async () => {
            const attempt = await post(service, body).catch(() => undefined);
            if (!attempt) await delay(100); // nobody there yet: the start needs the processor more
            return attempt?.status === 201 && attempt;
          },
          120_000, // each life may be too short for this client
        );
        receipts.push(answer.body.orderId as string);
      }
    });
    const everybody = Promise.all(clients);
    try {
      await Promise.race([everybody, killer]); // a service that does not come up ends the test at once
      await everybody;
    } finally {
      done = true;
    }
    await killer;

    expect(kills).toBeGreaterThanOrEqual(LEAST_KILLS);
    expect(receipts.length).toBeGreaterThanOrEqual(CLIENTS * ORDERS_EACH);
    expect(new Set(receipts).size).toBe(receipts.length);
    const kept = await database.query<{ customer_id: string }>(
      "SELECT customer_id FROM orders WHERE customer_id LIKE 'storm\\_%'",
    );
    expect(kept).toHaveLength(receipts.length);
    expect(new Set(kept.map(({ customer_id }) => customer_id)).size).toBe(receipts.length);
    for (const orderId of receipts) {
      await eventOf(orderId);
      expect(new Set(eventsOf(orderId).map(({ headers }) => headers['ce_id'])).size).toBe(1);
    }
    const told = topic.messages.filter(({ value }) => value.includes('storm_')).map(({ key }) => key);
    expect(new Set(told)).toEqual(new Set(receipts)); // and no event without its order
  });
});
