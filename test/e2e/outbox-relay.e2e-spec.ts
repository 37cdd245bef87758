import { randomUUID } from 'node:crypto';
import { Controller } from '@nestjs/common';
import { Ctx, EventPattern, KafkaContext, Payload } from '@nestjs/microservices';
import { Pieces } from '../../apps/sandbox/src/pieces';
import { runProgram } from '../../apps/sandbox/src/program';
import { Client } from 'pg';
import { environment } from '../support/environment';
import { api, type Api, anOrder, fetchToken, placeOrder } from '../support/client';
import { pieces } from '../support/pieces';
import { runToEnd } from '../support/run-program';
import { startService, type TestService } from '../support/service';
import { spawnService } from '../support/child';
import { describeWithKafka, Topic } from '../support/topic';
import { firstBelow, inSomeRound, until } from '../support/until';

/** Puts events of one aggregate into the outbox as a feature would. */
async function tell(service: TestService, aggregateId: string, sequences: number[], payload = '{}'): Promise<void> {
  await service.database.query(
    `INSERT INTO outbox (id, aggregatetype, aggregateid, type, payload, sequence)
     SELECT gen_random_uuid(), 'order', $1, 'order.tested', $2::json, n FROM unnest($3::int[]) AS n`,
    [aggregateId, payload, sequences],
  );
}

/** Whether all events are marked. Asked often while they are published, so it counts none. */
const areMarked = async (service: TestService): Promise<boolean> =>
  (await service.database.query('SELECT FROM outbox WHERE published_at IS NULL LIMIT 1')).length === 0;

/** Its payment API is down, so that it has no events but those of the test. */
const aPendingOrder = () => anOrder({ customerId: 'cust_down' });

describeWithKafka('OutboxRelay with Kafka', () => {
  let service: TestService;
  let orders: Api;
  let topic: Topic;

  beforeAll(async () => {
    service = await startService({ ROLES: 'worker,api', KAFKA_BROKERS: pieces().kafkaBrokers });
    orders = api(service.url, await fetchToken('order-orchestrator'));
    topic = await Topic.read();
  });
  afterAll(async () => {
    await topic.close();
    await service.stop();
  });

  it('publishes and marks all others while another session holds on to an event', async () => {
    const [held, beside, later] = [`held-${randomUUID()}`, `beside-${randomUUID()}`, `later-${randomUUID()}`];
    const holder = new Client(service.database.superuserUrl);
    await holder.connect();
    // In one go, so that the event is locked before the relay can have marked it.
    await holder.query(`
      INSERT INTO outbox (id, aggregatetype, aggregateid, type, payload, sequence)
      VALUES (gen_random_uuid(), 'order', '${held}', 'order.tested', '{}', 1);
      COMMIT; BEGIN; SELECT FROM outbox WHERE aggregateid = '${held}' FOR UPDATE`);
    await tell(service, beside, [1]);
    await until('the events', () => [held, beside].every((id) => topic.about(id).length > 0));
    await tell(service, later, [1]);
    await until('a later event', () => topic.about(later).length === 1);
    const waiting = () => service.database.query<object>('SELECT aggregateid FROM outbox WHERE published_at IS NULL');
    await until('the marks', async () => (await waiting()).length === 1);
    expect(await waiting()).toEqual([{ aggregateid: held }]);
    await holder.end();
    await until('the last mark', async () => (await waiting()).length === 0);
  });

  it('publishes an event once while it cannot be marked, and does not take another for it that has its position', async () => {
    const [first, successor] = [`ord_${randomUUID()}`, `ord_${randomUUID()}`];
    await service.database.query(`
      CREATE SEQUENCE marks;
      CREATE FUNCTION refuse_mark() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        PERFORM nextval('marks');
        RAISE EXCEPTION 'could not extend file' USING ERRCODE = '53100';
      END $$;
      GRANT USAGE ON SEQUENCE marks TO PUBLIC;
      CREATE TRIGGER refuse_mark BEFORE UPDATE ON outbox EXECUTE FUNCTION refuse_mark()`);
    await tell(service, first, [1]);
    await until('three attempts', async () => {
      const [row] = await service.database.query<{ attempts: string }>('SELECT last_value AS attempts FROM marks');
      return Number(row?.attempts) >= 3;
    });
    expect(topic.about(first)).toHaveLength(1);

    // As after a failover to a server that had not got the event yet.
    await service.database.query(`
      DROP TRIGGER refuse_mark ON outbox;
      UPDATE outbox SET id = gen_random_uuid(), aggregateid = '${successor}' WHERE aggregateid = '${first}'`);
    await until('the successor', () => topic.about(successor).length === 1);
  });

  it('publishes an order as a CloudEvent, keyed by its id, in the trace of its request', async () => {
    const traceparent = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01';
    const headers = { traceparent, 'x-request-id': 'request-of-the-order' };
    const receipt = await placeOrder(orders, aPendingOrder(), headers);
    const [message] = await until('the event', () => {
      const found = topic.about(receipt.orderId);
      return found.length > 0 && found;
    });
    expect(message?.headers).toEqual({
      ce_specversion: '1.0',
      ce_id: expect.stringMatching(/^evt_[0-9a-hjkmnp-tv-z]{26}$/),
      ce_type: 'order.created',
      ce_source: '/orders',
      ce_subject: receipt.orderId,
      ce_time: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/),
      ce_sequence: '1',
      ce_dataschema: 'urn:order-a2a:schema:order.created:1',
      'content-type': 'application/json',
      traceparent: expect.stringMatching(/^00-0af7651916cd43dd8448eb211c80319c-(?!b7ad6b7169203331)[0-9a-f]{16}-01$/),
      'x-request-id': 'request-of-the-order',
    });
    const { links, ...order } = (await orders(receipt.links.self)).body;
    expect(JSON.parse(message?.value ?? '')).toEqual(order);
    await until('the mark', () => areMarked(service));
    const { text: metrics } = await orders('/metrics');
    expect(metrics).toMatch(/events_published_total\{type="order.created"\} [1-9]/);
    expect(metrics).toMatch(/^outbox_backlog \d+$/m);
    expect(metrics).toMatch(/^outbox_oldest_age_seconds \d/m);
  });

  it('keeps the events of each order in order, in one partition', async () => {
    const ids = Array.from({ length: 20 }, () => `ord_${randomUUID()}`);
    for (let n = 1; n <= 30; n += 1) await Promise.all(ids.map((id) => tell(service, id, [n])));
    await until('all events', () => ids.every((id) => topic.about(id).length >= 30));
    for (const id of ids) {
      const messages = topic.about(id);
      expect(messages.map(({ headers }) => Number(headers['ce_sequence']))).toEqual([...Array(31).keys()].slice(1));
      expect(new Set(messages.map(({ partition }) => partition)).size).toBe(1);
    }
  });

  it('sets aside what Kafka will never take, with what follows it, and goes on with all others', async () => {
    const [before, tooLarge, other] = [`ord_${randomUUID()}`, `ord_${randomUUID()}`, `ord_${randomUUID()}`];
    const huge = JSON.stringify({ a: 'x'.repeat(1_200_000) });
    await service.database.query('BEGIN');
    await tell(service, before, [1]);
    await tell(service, tooLarge, [1]);
    await tell(service, tooLarge, [2], huge);
    await tell(service, tooLarge, [3]);
    await tell(service, other, [1]);
    await service.database.query('COMMIT');
    await until('the others', () => topic.about(before).length > 0 && topic.about(other).length > 0);
    await tell(service, tooLarge, [4]);
    await tell(service, other, [2]);
    await until('later events', () => topic.about(other).length > 1);
    expect(topic.about(tooLarge).map(({ headers }) => headers['ce_sequence'])).toEqual(['1']);
    expect(await service.database.query('SELECT aggregateid, reason FROM outbox_parked')).toEqual([
      { aggregateid: tooLarge, reason: 'Kafka refuses the event' },
    ]);
    await until('the metric', async () => /^outbox_parked 1$/m.test((await orders('/metrics')).text));
    await until('a backlog without them', async () => /^outbox_backlog 0$/m.test((await orders('/metrics')).text));

    // What the runbook says: mend the event, and let the aggregate go on.
    await service.database.query(
      `UPDATE outbox SET payload = '{"mended":true}' WHERE aggregateid = $1 AND sequence = 2`,
      [tooLarge],
    );
    await service.database.query('DELETE FROM outbox_parked');
    await until('the rest', () => topic.about(tooLarge).length === 4);
    expect(topic.about(tooLarge).map(({ headers }) => headers['ce_sequence'])).toEqual(['1', '2', '3', '4']);
  });

  it('publishes a backlog at more than 1,000 events a second, in order', async () => {
    const publish = async () => {
      const run = randomUUID();
      await service.database.query(
        `INSERT INTO outbox (id, aggregatetype, aggregateid, type, payload, sequence)
         SELECT gen_random_uuid(), 'order', 'ord_' || n % 100 || $1, 'order.tested',
                json_build_object('a', repeat('x', 700)), n / 100 + 1
         FROM generate_series(0, 9999) AS n`,
        [run],
      );
      const start = performance.now();
      await topic.whilePaused(() => until('the marks', () => areMarked(service)));
      const tookMs = performance.now() - start;
      await until('all events', () => topic.messages.filter(({ key }) => key.endsWith(run)).length === 10_000);
      for (const n of [0, 50, 99]) {
        const sequences = topic.about(`ord_${n}${run}`).map(({ headers }) => Number(headers['ce_sequence']));
        expect(sequences).toEqual([...Array(101).keys()].slice(1));
      }
      return tookMs;
    };
    expect(await firstBelow(10_000, publish)).toBeLessThan(10_000);
  });

  it('has an event in Kafka and marked within a second of its commit', async () => {
    await inSomeRound(async () => {
      const run = randomUUID();
      for (let n = 1; n <= 50; n += 1) {
        await tell(service, `ord_${n}${run}`, [1]);
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
      await until('the marks', () => areMarked(service));
      const late = await service.database.query(
        `SELECT published_at - created_at AS took FROM outbox
         WHERE aggregateid LIKE $1 AND published_at - created_at > interval '1 second'`,
        [`%${run}`],
      );
      expect(late).toEqual([]);
    });
  });

  it('publishes what committed late, after newer events went out', async () => {
    const late = `ord_${randomUUID()}`;
    const prompt = `ord_${randomUUID()}`;
    await service.database.query('BEGIN');
    await tell(service, late, [1]);
    const { orderId } = await placeOrder(orders, aPendingOrder());
    await until('the newer event', () => topic.about(orderId).length > 0);
    await service.database.query('COMMIT');
    await tell(service, prompt, [1]);
    await until('both', () => topic.about(late).length > 0 && topic.about(prompt).length > 0);
  });

  it('publishes nothing of a change that did not commit', async () => {
    const undone = `ord_${randomUUID()}`;
    await service.database.query('BEGIN');
    await tell(service, undone, [1]);
    await service.database.query('ROLLBACK');
    const { orderId } = await placeOrder(orders, aPendingOrder());
    await until('a later event', () => topic.about(orderId).length > 0);
    expect(topic.about(undone)).toEqual([]);
  });

  it('shares the lanes with other workers, and takes them over when one is gone', async () => {
    const lanes = async () => {
      const rows = await service.database.query<{ pid: number; held: number }>(
        `SELECT pid, count(*)::int AS held FROM pg_locks
         WHERE locktype = 'advisory' AND mode = 'ExclusiveLock' AND granted
           AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
         GROUP BY pid ORDER BY held`,
      );
      return rows.map(({ held }) => held).join();
    };
    await until('all lanes', async () => (await lanes()) === '16');
    const second = await spawnService({
      DATABASE_URL: service.database.url,
      KAFKA_BROKERS: pieces().kafkaBrokers,
      ROLES: 'worker',
    });
    await until('equal shares', async () => (await lanes()) === '8,8');
    const ids = Array.from({ length: 40 }, () => `ord_${randomUUID()}`);
    for (let n = 1; n <= 5; n += 1) await Promise.all(ids.map((id) => tell(service, id, [n])));
    await until('all events', () => ids.every((id) => topic.about(id).length === 5));
    for (const id of ids) {
      expect(topic.about(id).map(({ headers }) => headers['ce_sequence'])).toEqual(['1', '2', '3', '4', '5']);
    }
    await second.end('SIGKILL');
    await until('all lanes again', async () => (await lanes()) === '16');
  });
});

describeWithKafka('npm run topics', () => {
  it('leaves topics that stand as they are, and says so', async () => {
    const env = { DATABASE_URL: 'postgres://127.0.0.1/none', KAFKA_BROKERS: pieces().kafkaBrokers };
    expect(await runToEnd('topics', env, ['--partitions', '7'])).toMatchObject({
      code: 0,
      out: 'orders.events has 6 partitions\norders.events.dlq has 6 partitions\n',
    });
    await expect(runProgram(new Pieces(), 'topics', environment(env))).rejects.toThrow('topics failed');
  });
});

describe('OutboxRelay without Kafka', () => {
  const received: { id: string; data: unknown; sequence: string }[] = [];
  const failing = new Set<string>();

  @Controller()
  class Consumer {
    @EventPattern('orders.events')
    consume(@Payload() value: unknown, @Ctx() context: unknown): void {
      const { key, headers } = (context as KafkaContext).getMessage();
      const id = String(key);
      if (failing.delete(id)) throw new Error('the consumer fails once');
      received.push({ id, data: JSON.parse(String(value)), sequence: String(headers?.['ce_sequence']) });
    }
  }

  let service: TestService;

  beforeAll(async () => {
    service = await startService({ ROLES: 'api,worker' }, { beside: { controllers: [Consumer] } });
  });
  afterAll(() => service.stop());

  const about = (id: string) => received.filter((event) => event.id === id);

  it('hands events to the consumers in the same process, in order', async () => {
    const { body } = await api(service.url, await fetchToken('order-orchestrator'))('/v1/orders', {
      body: aPendingOrder(),
    });
    await tell(service, body.orderId, [2, 3]);
    await until('three events', () => about(body.orderId).length === 3);
    expect(about(body.orderId).map(({ sequence }) => sequence)).toEqual(['1', '2', '3']);
    expect(about(body.orderId)[0]?.data).toMatchObject({ orderId: body.orderId, status: 'PENDING' });
    await until('the marks', () => areMarked(service));
  });

  it('delivers again what a consumer failed on, before what follows it', async () => {
    const id = `ord_${randomUUID()}`;
    failing.add(id);
    await tell(service, id, [1, 2]);
    await until('both events', () => about(id).length >= 2);
    expect(about(id).map(({ sequence }) => sequence)).toEqual(['1', '2']);
    await until('the marks', () => areMarked(service));
  });
});

describe('OUTBOX_RELAY=off', () => {
  it('leaves the outbox to change data capture', async () => {
    const service = await startService({ ROLES: 'api,worker', OUTBOX_RELAY: 'off' });
    const { body } = await api(service.url, await fetchToken('order-orchestrator'))('/v1/orders', {
      body: aPendingOrder(),
    });
    await new Promise((resolve) => setTimeout(resolve, 500));
    expect(await service.database.query('SELECT FROM outbox WHERE published_at IS NULL')).toHaveLength(1);
    const [row] = await service.database.query('SELECT aggregatetype, aggregateid, type, payload FROM outbox');
    expect(row).toMatchObject({ aggregatetype: 'order', aggregateid: body.orderId, type: 'order.created' });
    await service.stop();
  });
});
