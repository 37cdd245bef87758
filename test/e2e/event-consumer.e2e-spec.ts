import { randomUUID } from 'node:crypto';
import { Controller, type OnModuleInit } from '@nestjs/common';
import { Ctx, KafkaContext, NestMicroservice } from '@nestjs/microservices';
import { EventConsumer, oneByOne, OnEvents } from '@platform/messaging';
import { CompressionTypes, type IHeaders, Kafka, logLevel, type Producer } from 'kafkajs';
import { ORDERS_TOPIC } from '../../apps/order-service/src/orders-topic';
import { type Api, api, fetchToken, metric, placeOrder } from '../support/client';
import { pieces } from '../support/pieces';
import { startService, type TestService } from '../support/service';
import { describeWithKafka, Topic } from '../support/topic';
import { until } from '../support/until';

/** Its own, and not that of its database, because its place in the topic is given. */
const GROUP = `listener-${randomUUID()}`;

const handled: string[] = [];
const failures = new Map<string, number>();
const listen = jest.spyOn(NestMicroservice.prototype, 'listen');

@Controller()
class Listener implements OnModuleInit {
  constructor(private readonly events: EventConsumer) {}

  onModuleInit(): void {
    expect(listen).not.toHaveBeenCalled();
  }

  @OnEvents(ORDERS_TOPIC)
  consume(@Ctx() context: KafkaContext): Promise<void> {
    return this.events.consume('listener', context, {
      'test.told': oneByOne(async (tx, { id, subject, data }) => {
        await tx.query(`INSERT INTO outbox_parked (aggregateid, position, reason) VALUES ($1, 0, 'an effect')`, [id]);
        const left = failures.get(subject) ?? 0;
        failures.set(subject, left - 1);
        if (left > 0) throw new Error(`fails\n${left} times more`);
        handled.push(`${subject} ${JSON.stringify(data)}`);
      }),
    });
  }
}

describeWithKafka('Events of Kafka', () => {
  let service: TestService;
  let orders: Api;
  let topic: Topic;
  let letters: Topic;
  let producer: Producer;

  beforeAll(async () => {
    const kafka = new Kafka({ brokers: [pieces().kafkaBrokers ?? ''], logLevel: logLevel.NOTHING });
    producer = kafka.producer();
    await producer.connect();
    // The events of all tests before this one are not its own, and are thousands.
    const admin = kafka.admin();
    await admin.connect();
    await admin.resetOffsets({ groupId: GROUP, topic: ORDERS_TOPIC, earliest: false });
    await admin.disconnect();
    [topic, letters] = await Promise.all([Topic.read(), Topic.read(undefined, `${ORDERS_TOPIC}.dlq`)]);
    const kafkaSettings = { KAFKA_BROKERS: pieces().kafkaBrokers, KAFKA_CONSUMER_GROUP: GROUP };
    service = await startService({ ROLES: 'api,worker', ...kafkaSettings }, { beside: { controllers: [Listener] } });
    expect(listen).toHaveBeenCalledTimes(1); // but not before its handlers were initialized, see above
    orders = api(service.url, await fetchToken('order-orchestrator'));
  });
  afterAll(async () => {
    await service.stop();
    await Promise.all([topic.close(), letters.close(), producer.disconnect()]);
  });

  interface Message {
    readonly id?: string;
    readonly value?: string | null;
    readonly headers?: IHeaders;
    readonly compression?: CompressionTypes;
  }
  const tell = (subject: string, { id = randomUUID(), value = '{"a":1}', headers = {}, compression }: Message = {}) =>
    producer.send({
      topic: ORDERS_TOPIC,
      compression,
      messages: [
        { key: subject, value, headers: { ce_id: id, ce_type: 'test.told', ce_subject: subject, ...headers } },
      ],
    });
  const letterOf = (subject: string, consumer = 'listener') =>
    until('the dead letter', () => letters.about(subject).find(({ headers }) => headers['dlq-consumer'] === consumer));
  const handledOf = (subject: string) => handled.filter((entry) => entry.startsWith(`${subject} `));

  it('carry an order from its creation to its confirmation, in order', async () => {
    const { orderId } = await placeOrder(orders);
    await until('both events', () => topic.about(orderId).length === 2);
    const types = topic.about(orderId).map(({ headers }) => [headers['ce_type'], headers['ce_sequence']]);
    expect(types).toEqual([
      ['order.created', '1'],
      ['order.confirmed', '2'],
    ]);
    expect((await orders(`/v1/orders/${orderId}`)).body.status).toBe('CONFIRMED');
    expect((await orders('/health/ready')).body.details['kafka-consumer'].status).toBe('up');
  });

  it('have one effect each, for each consumer, however often they are delivered', async () => {
    const id = randomUUID();
    const subject = `once-${id}`;
    const before = await metric(service.url, 'events_consumed_total{type="test.told",outcome="duplicate"}');
    for (let n = 0; n < 3; n += 1) await tell(subject, { id });
    await until('the duplicates', async () => {
      return (await metric(service.url, 'events_consumed_total{type="test.told",outcome="duplicate"}')) === before + 2;
    });
    expect(handledOf(subject)).toEqual([`${subject} {"a":1}`]);
    const noted = 'SELECT consumer FROM inbox WHERE event_id = $1';
    expect(await service.database.query(noted, [id])).toEqual([{ consumer: 'listener' }]);
  });

  it('are tried again when they fail, without a trace of the attempts that failed', async () => {
    const subject = `twice-${randomUUID()}`;
    failures.set(subject, 2);
    await tell(subject, { id: subject });
    const noted = 'SELECT FROM inbox WHERE event_id = $1'; // once it is committed, which is after it was handled
    await until('the effect', async () => (await service.database.query(noted, [subject])).length === 1);
    const effects = 'SELECT FROM outbox_parked WHERE aggregateid = $1';
    expect(await service.database.query(effects, [subject])).toHaveLength(1);
    expect(handledOf(subject)).toHaveLength(1);
  });

  it('go to the dead letters when they fail for good, and those behind them go on', async () => {
    const subject = `never-${randomUUID()}`;
    failures.set(subject, 5); // all attempts for the first, and none for the next
    const headers = { 'x-request-id': 'req-7', other: Buffer.from([0, 255]) };
    await tell(subject, { id: subject, headers });
    await tell(subject, { value: '{"a":2}' });
    const letter = await letterOf(subject);
    expect(letter.value).toBe('{"a":1}');
    expect(letter.headers).toMatchObject({
      ce_id: subject,
      ce_type: 'test.told',
      'x-request-id': 'req-7',
      'dlq-topic': ORDERS_TOPIC,
      'dlq-consumer': 'listener',
      'dlq-attempts': '5',
      'dlq-reason': expect.stringMatching(/^fails \d+ times more$/),
    });
    await until('the next event', () => handledOf(subject).includes(`${subject} {"a":2}`));
    expect(await service.database.query('SELECT FROM inbox WHERE event_id = $1', [subject])).toEqual([]);
    expect(await service.database.query('SELECT FROM outbox_parked WHERE aggregateid = $1', [subject])).toEqual([]);
  });

  it.each([
    ['gzip', CompressionTypes.GZIP],
    ['zstd', CompressionTypes.ZSTD],
  ])('are read when they come compressed with %s', async (_, compression) => {
    const subject = `compressed-${randomUUID()}`;
    await tell(subject, { compression });
    await until('the effect', () => handledOf(subject).length === 1);
  });

  it('share a transaction when they come together, and none suffers when one of them fails', async () => {
    const names = (count: number) => Array.from({ length: count }, () => `together-${randomUUID()}`);
    const send = (subjects: string[]) =>
      producer.send({
        topic: ORDERS_TOPIC,
        messages: subjects.map((name) => ({
          key: name,
          value: '{"a":1}',
          headers: { ce_id: name, ce_type: 'test.told', ce_subject: name },
        })),
      });
    const noted = async (subjects: string[]) => {
      const sql = 'SELECT xmin::text AS transaction FROM inbox WHERE event_id = ANY($1)';
      return service.database.query<{ transaction: string }>(sql, [subjects]);
    };
    const transactionsFor = async (subjects: string[]) => {
      await send(subjects);
      await until('all of them', async () => (await noted(subjects)).length === subjects.length);
      return new Set((await noted(subjects)).map(({ transaction }) => transaction)).size;
    };
    const [bad = '', ...good] = names(200);
    failures.set(bad, 99);
    await send([bad, ...good]);
    expect((await letterOf(bad)).headers['dlq-attempts']).toBe('5');
    // Other tests' orders are told in the topic too, and are not in this database: they fail beside ours.
    const later: string[] = [];
    await until('a hundred that share their transactions', async () => {
      const subjects = names(100);
      later.push(...subjects);
      return (await transactionsFor(subjects)) < 50;
    });
    await until('all others', async () => (await noted(good)).length === good.length);
    const effects = 'SELECT aggregateid FROM outbox_parked WHERE aggregateid = ANY($1)';
    const all = [bad, ...good, ...later];
    const having = await service.database.query<{ aggregateid: string }>(effects, [all]);
    expect(having.map(({ aggregateid }) => aggregateid).sort()).toEqual([...good, ...later].sort());
  });

  it.each<[string, IHeaders, string | null, string]>([
    ['without a type', { ce_type: '' }, '{}', 'The header ce_type is missing'],
    ['without an id', { ce_id: '' }, '{}', 'The header ce_id is missing'],
    ['with two ids', { ce_id: ['1', '2'] }, '{}', 'The header ce_id is missing'],
    ['with a value that is no JSON', {}, '{"a":', 'The value is not JSON'],
    ['without a value', {}, null, 'The value is not JSON'],
  ])('go to the dead letters at once when they come %s', async (_, headers, value, reason) => {
    const subject = `malformed-${randomUUID()}`;
    await tell(subject, { value, headers });
    await tell(subject, { value: '{"next":true}' });
    const letter = await letterOf(subject);
    expect(letter.headers).toMatchObject({ 'dlq-reason': reason, 'dlq-attempts': '1' });
    await until('the next event', () => handledOf(subject).length === 1);
  });

  it.each<[string, string, IHeaders, string, string]>([
    ['value', 'x'.repeat(3 * 1024 * 1024), {}, 'value', 'The value exceeds 2097152 bytes'],
    ['headers', 'x', { padding: 'x'.repeat(3 * 1024 * 1024) }, 'key, headers, value', 'The value is not JSON'],
  ])(
    'go to the dead letters when their %s came compressed and are too large for them',
    async (_, value, headers, what, reason) => {
      const subject = `large-${randomUUID()}`;
      await tell(subject, { value, headers, compression: CompressionTypes.GZIP });
      await tell(subject);
      await until('the next event', () => handledOf(subject).length === 1);
      const { headers: own } = await until('the letter', () =>
        letters.messages.findLast((each) => each.headers['dlq-omitted'] === what),
      );
      expect(own).toMatchObject({
        'dlq-topic': ORDERS_TOPIC,
        'dlq-consumer': 'listener',
        'dlq-reason': `${reason} (too large to keep: ${what})`,
      });
      const original = await until('the original', () =>
        topic.messages.find(
          ({ partition, offset }) => `${partition}:${offset}` === `${own['dlq-partition']}:${own['dlq-offset']}`,
        ),
      );
      expect(original.key).toBe(subject);
    },
  );

  it('go to the dead letters whatever their headers are named', async () => {
    const subject = `named-${randomUUID()}`;
    const names = ['constructor', 'toString', 'valueOf', 'hasOwnProperty', '__proto__'];
    const headers = Object.fromEntries(names.map((name) => [name, `${name} of it`]));
    await tell(subject, { value: 'no JSON', headers });
    await tell(subject, { headers });
    const letter = await letterOf(subject);
    for (const name of names) {
      expect(Object.entries(letter.headers)).toContainEqual([name, expect.stringContaining(`${name} of it`)]);
    }
    await until('the next event', () => handledOf(subject).length === 1);
  });

  it('are passed over when nobody knows their type', async () => {
    const subject = `unknown-${randomUUID()}`;
    await tell(subject, { headers: { ce_type: 'toString' }, value: 'no JSON' });
    await tell(subject, { headers: { ce_type: 'order.shipped' }, value: 'no JSON' });
    await tell(subject);
    await until('the next event', () => handledOf(subject).length === 1);
    expect(letters.about(subject)).toEqual([]);
    expect(await metric(service.url, 'events_consumed_total{type="other",outcome="ignored"}')).toBeGreaterThan(1);
  });

  it('that are dead letters show in the metrics of a worker', async () => {
    const text = async () => (await api(service.url)('/metrics')).text;
    await until('the metric', async () => /^dead_letter_records \d+$/m.test(await text()));
  });

  it('of an order that is not there go to the dead letters', async () => {
    const subject = 'ord_00000000000000000000000000';
    await tell(subject, { headers: { ce_type: 'order.created' } });
    const letter = await letterOf(subject, 'payments');
    expect(letter.headers).toMatchObject({
      'dlq-reason': expect.stringContaining('foreign key'),
      'dlq-attempts': '1',
    });
  });
});
