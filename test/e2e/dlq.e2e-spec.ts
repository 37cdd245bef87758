import { randomBytes, randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { loadConfig } from '@platform/config';
import { type DeadLetter, DeadLetterBox, DeadLetterGauge, KafkaDeadLetters, type Letter } from '@platform/kafka';
import {
  type Admin,
  ConfigResourceTypes,
  ConfigSource,
  type Consumer,
  type IHeaders,
  Kafka,
  type KafkaMessage,
  logLevel,
  type Producer,
} from 'kafkajs';
import { Gauge } from 'prom-client';
import { withDeadLetterLock } from '../../apps/order-service/src/dead-letter-lock';
import { SERVICE_NAME } from '../../apps/order-service/src/service-name';
import { type KafkaBroker, startKafkaOnJvm } from '../../apps/sandbox/src/kafka';
import { createDatabase, type TestDatabase } from '../support/database';
import { environment } from '../support/environment';
import { freePort } from '../support/free-port';
import { openLetters } from '../support/open-letters';
import { brokerOptions } from '../support/own-broker';
import { type Run, runToEnd } from '../support/run-program';
import { describeWithOwnBroker } from '../support/topic';
import { until } from '../support/until';

const ORIGIN = 'orders.events';
/** The dead letter topic takes it. */
const TOO_LARGE_FOR_ORIGIN = 'x'.repeat(1_200_000);
const DLQ = 'orders.events.dlq';
const NONE = 'There are no open letters in orders.events.dlq\n';
const USAGE =
  'usage: npm run dlq -- list [--json] | show ID | replay ID…|--all | drop ID…|--all   (ID: PARTITION:OFFSET)\n';

const run = (program: string, brokers: string, args: string[], env: NodeJS.ProcessEnv = {}) =>
  runToEnd(program, { DATABASE_URL: 'postgres://127.0.0.1/none', KAFKA_BROKERS: brokers, ...env }, args);

async function runWithSilentKafka() {
  const silent = net.createServer().listen(0, '127.0.0.1');
  await once(silent, 'listening');
  const sockets = new Set<net.Socket>();
  silent.on('connection', (socket) => sockets.add(socket));
  const address = `127.0.0.1:${(silent.address() as net.AddressInfo).port}`;
  const startedAt = performance.now();
  const result = await run('dlq', address, ['list']);
  const ms = performance.now() - startedAt;
  for (const socket of sockets) socket.destroy();
  silent.close();
  return { address, result, ms };
}

function settings(brokers: string) {
  const { kafka } = loadConfig(
    SERVICE_NAME,
    environment({ DATABASE_URL: 'postgres://127.0.0.1/none', KAFKA_BROKERS: brokers }),
  );
  if (!kafka) throw new Error('The environment names no Kafka');
  return kafka;
}

/** On a broker of its own: these tests empty the topic, and what they replay is nothing for other tests' consumers. */
describeWithOwnBroker('Dead letters', () => {
  let database: TestDatabase;
  let broker: KafkaBroker;
  let startBroker: () => Promise<void>;
  let deadLetters: KafkaDeadLetters;
  let admin: Admin;
  let producer: Producer;
  let consumer: Consumer;
  /** What came to `orders.events`. */
  const arrived: KafkaMessage[] = [];
  let beforeTopics: Run;
  let topics: Run;
  /** Takes 8 s, in which the other tests run. */
  let withSilence: Promise<{ address: string; result: Run; ms: number }>;

  const dlq = (...args: string[]) => run('dlq', broker.address, args, { DATABASE_URL: database.url });

  beforeAll(async () => {
    database = await createDatabase();
    const options = await brokerOptions();
    startBroker = async () => {
      broker = await startKafkaOnJvm(options);
    };
    await startBroker();
    withSilence = runWithSilentKafka();
    withSilence.catch(() => undefined);
    beforeTopics = await dlq('list');
    topics = await run('topics', broker.address, ['--partitions', '3', '--replication-factor', '1']);
    const kafka = new Kafka({ brokers: [broker.address], logLevel: logLevel.NOTHING });
    deadLetters = new KafkaDeadLetters(settings(broker.address));
    admin = kafka.admin();
    producer = kafka.producer();
    consumer = kafka.consumer({ groupId: 'test', maxWaitTimeInMs: 100 });
    await Promise.all([admin.connect(), producer.connect(), consumer.connect()]);
    await consumer.subscribe({ topics: [ORIGIN], fromBeginning: true });
    await consumer.run({
      eachMessage: async ({ message }) => {
        arrived.push(message);
      },
    });
  });

  afterAll(async () => {
    await consumer.disconnect();
    await Promise.all([admin.disconnect(), producer.disconnect(), deadLetters.onApplicationShutdown()]);
    await broker.stop();
    await database.drop();
  });

  /** After it the offsets begin above 0, and some partitions are empty. */
  async function empty(): Promise<void> {
    await admin.fetchTopicOffsets(DLQ); // without it kafkajs does not know the topic
    await admin.deleteTopicRecords({
      topic: DLQ,
      partitions: [0, 1, 2].map((partition) => ({ partition, offset: '-1' })),
    });
  }
  beforeEach(empty);

  interface Changes extends Partial<Omit<DeadLetter, 'message'>> {
    readonly key?: Buffer | null;
    readonly value?: Buffer | null;
    readonly headers?: IHeaders;
  }

  /** Sends a letter as a consumer does. @returns its id */
  async function bury({
    key,
    value = Buffer.from('{"n":1}'),
    headers = {},
    ...changes
  }: Changes = {}): Promise<string> {
    const before = await ends();
    await deadLetters.send({
      message: { key: key === undefined ? Buffer.from(`ord_${randomUUID()}`) : key, value, headers },
      topic: ORIGIN,
      partition: 1,
      offset: '41',
      consumer: 'payments',
      reason: 'no luck',
      attempts: 5,
      ...changes,
    });
    const grown = [...(await ends())].filter(([partition, end]) => end !== before.get(partition));
    const [[partition, end] = [], ...others] = grown;
    if (end === undefined || end !== (before.get(Number(partition)) ?? 0) + 1 || others.length > 0) {
      throw new Error('One letter was sent, and not one came');
    }
    return `${partition}:${end - 1}`;
  }

  /** The next offset of each partition. */
  async function ends(): Promise<Map<number, number>> {
    const offsets = await admin.fetchTopicOffsets(DLQ);
    return new Map(offsets.map(({ partition, high }) => [partition, Number(high)]));
  }

  const open = () => openLetters(settings(broker.address), DLQ);
  const openIds = async () => (await open()).map(({ id }) => id);

  /** Records that the partition of a letter still holds. */
  async function held(id: string): Promise<number> {
    const offsets = await admin.fetchTopicOffsets(DLQ);
    const { low, high } = offsets.find(({ partition }) => partition === Number(id.split(':')[0])) ?? {
      low: 0,
      high: 0,
    };
    return Number(high) - Number(low);
  }

  const arrivedWith = (key: Buffer) => arrived.filter((message) => message.key?.equals(key));

  describe('npm run topics', () => {
    it('creates the topic and its dead letter topic, which keeps what comes for 30 days, both compressed as they come', async () => {
      expect(topics).toEqual({
        code: 0,
        out: 'orders.events has 3 partitions\norders.events.dlq has 3 partitions\n',
        err: '',
      });
      const { resources } = await admin.describeConfigs({
        includeSynonyms: false,
        resources: [ORIGIN, DLQ].map((name) => ({ type: ConfigResourceTypes.TOPIC, name })),
      });
      const [own, ofLetters] = [ORIGIN, DLQ].map((topic) => {
        const { configEntries = [] } = resources.find(({ resourceName }) => resourceName === topic) ?? {};
        const set = configEntries.filter(({ configSource }) => configSource === ConfigSource.TOPIC_CONFIG);
        return Object.fromEntries(set.map(({ configName, configValue }) => [configName, configValue]));
      });
      expect(own).toEqual({ 'compression.type': 'producer' });
      expect(ofLetters).toEqual({
        'cleanup.policy': 'delete',
        'compression.type': 'producer',
        'retention.ms': '2592000000',
        'segment.ms': '86400000',
        'max.message.bytes': '2097176',
      });
    });

    it('leaves both as they are where they stand', async () => {
      const { code, out, err } = await run('topics', broker.address, ['--partitions', '4']);
      expect([code, out]).toEqual([0, 'orders.events has 3 partitions\norders.events.dlq has 3 partitions\n']);
      expect(err.match(/existed before and is left as it is/g)).toHaveLength(2);
    });

    it('explains itself when called otherwise', async () => {
      const usage = 'usage: npm run topics -- --partitions N [--replication-factor N]\n';
      const wrong = [[], ['--partitions', '0'], ['--partitions=-1'], ['--partitions', '1.5']];
      wrong.push(['--partitions', '3', '--replication-factor', 'many'], ['--partitions', '3', 'more']);
      const runs = await Promise.all(wrong.map((args) => run('topics', broker.address, args)));
      for (const each of runs) expect(each).toEqual({ code: 1, out: '', err: usage });
    });

    it('says that Kafka is away', async () => {
      const address = `127.0.0.1:${await freePort()}`;
      const { code, out, err } = await run('topics', address, ['--partitions', '3']);
      expect([code, out]).toEqual([1, '']);
      expect(err).toBe(`Kafka cannot be reached at ${address}: Connection error: connect ECONNREFUSED ${address}\n`);
    });

    it('says why the brokers refuse a topic, and creates the one that is missing', async () => {
      await admin.deleteTopics({ topics: [DLQ] });
      const refused = await run('topics', broker.address, ['--partitions', '3', '--replication-factor', '2']);
      expect([refused.code, refused.out]).toEqual([1, '']);
      expect(refused.err).toContain('Replication-factor is invalid');
      const { code, out } = await run('topics', broker.address, ['--partitions', '3', '--replication-factor', '1']);
      expect([code, out]).toEqual([0, 'orders.events has 3 partitions\norders.events.dlq has 3 partitions\n']);
    });
  });

  describe('list', () => {
    it('says that the topic does not exist', () => {
      expect(beforeTopics).toEqual({ code: 1, out: '', err: 'The topic orders.events.dlq does not exist\n' });
    });

    it('says that there is none, on standard error where standard output is for programs', async () => {
      expect(await dlq('list')).toEqual({ code: 0, out: NONE, err: '' });
      expect(await dlq('list', '--json')).toEqual({ code: 0, out: '', err: NONE });
    });

    it('has one line for each letter, newest last', async () => {
      const headers = { ce_type: Buffer.from('order.created') };
      const ids: string[] = [];
      const keys = ['k2', 'k0', 'k3', 'k5']; // of several partitions
      for (const key of keys) ids.push(await bury({ key: Buffer.from(key), headers }));
      expect(new Set(ids.map((id) => id.split(':')[0])).size).toBeGreaterThan(1);
      const { code, out, err } = await dlq('list');
      const time = /\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z/;
      const lines = out.trim().split('\n');
      expect(lines.map((line) => line.replace(time, 'TIME'))).toEqual(
        ids.map((id, i) => `${id}  TIME  order.created  ${keys[i]}  payments  attempts=5  no luck`),
      );
      const times = lines.map((line) => time.exec(line)?.[0] ?? '');
      expect(times).toEqual(times.toSorted());
      expect(Date.now() - Date.parse(times[3] ?? '')).toBeLessThan(30_000);
      expect([code, err]).toEqual([0, '']);
    });

    it('keeps to one line, whatever the reason, the key and the type are', async () => {
      const id = await bury({
        key: Buffer.from('two\nlines'),
        headers: { ce_type: Buffer.from([0xff, 0]) },
        reason: 'Line one\r\n  line two\u2028\u001b[31m é漢😀',
      });
      const { out } = await dlq('list');
      expect(out.replace(/\S+Z/, 'TIME')).toBe(
        `${id}  TIME  \ufffd  two lines  payments  attempts=5  Line one line two [31m é漢😀\n`,
      );
      const longId = await bury({ reason: `${'x'.repeat(999)}😀 and more` });
      const letter = (await open()).find((each) => each.id === longId);
      expect(String(letter?.headers['dlq-reason'])).toBe(`${'x'.repeat(999)}\ufffd`);
    });

    it('prints JSON for programs, null for what is missing', async () => {
      const headers = { ce_type: Buffer.from('order.created') };
      const id = await bury({ key: Buffer.from('ord_json'), headers });
      await producer.send({ topic: DLQ, messages: [{ key: null, value: 'of another program' }] });
      const lines = (await dlq('list', '--json')).out.trim().split('\n');
      const time = expect.stringMatching(/Z$/) as string;
      expect(lines.map((line) => JSON.parse(line) as unknown)).toEqual([
        {
          id,
          time,
          type: 'order.created',
          key: 'ord_json',
          topic: ORIGIN,
          partition: 1,
          offset: '41',
          consumer: 'payments',
          attempts: 5,
          reason: 'no luck',
        },
        {
          id: expect.stringMatching(/^\d:\d+$/),
          time,
          type: null,
          key: null,
          topic: null,
          partition: null,
          offset: null,
          consumer: null,
          attempts: null,
          reason: null,
        },
      ]);
    });

    it('prints nothing that a terminal would act on', async () => {
      const text = 'a\u009b2J\u007f\u202eb\u200b\u2028\r\u{e0001}c';
      await bury({ key: Buffer.from(text), headers: { ce_type: text, [text]: text }, reason: text });
      const outs = [
        (await dlq('list')).out,
        (await dlq('list', '--json')).out,
        (await dlq('show', (await openIds())[0] ?? '')).out,
      ];
      for (const out of outs) expect(out).not.toMatch(/(?!\n)[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/u);
      const [letter] = await open();
      expect(JSON.parse(outs[1] ?? '')).toMatchObject({ type: text, reason: String(letter?.headers['dlq-reason']) });
    });

    it('reads thousands of letters, in more bytes than one fetch brings', async () => {
      const messages = Array.from({ length: 3_000 }, (_, i) => ({ key: `many-${i}`, value: 'x'.repeat(1_500) }));
      for (let i = 0; i < 3_000; i += 500) await producer.send({ topic: DLQ, messages: messages.slice(i, i + 500) });
      const { out } = await dlq('list', '--json');
      const keys = out
        .trim()
        .split('\n')
        .map((line) => (JSON.parse(line) as { key: string }).key);
      expect(new Set(keys)).toEqual(new Set(messages.map(({ key }) => key)));
      expect(keys).toHaveLength(3_000);
    });

    it('needs no memory for what the letters say', async () => {
      const headers = Object.fromEntries(Array.from({ length: 20 }, (_, i) => [`ce_${i}`, 'x'.repeat(40)]));
      const messages = Array.from({ length: 1_000 }, () => ({ value: 'x', headers }));
      for (let i = 0; i < 30; i += 1) await producer.send({ topic: DLQ, messages });
      const NODE_OPTIONS = '--max-old-space-size=96';
      const { code, out } = await run('dlq', broker.address, ['list'], { NODE_OPTIONS });
      expect(code).toBe(0);
      expect(out.trim().split('\n')).toHaveLength(30_000);
    });

    it('takes no notice of a marker that names no letter of its partition', async () => {
      const id = await bury();
      const partition = Number(id.split(':')[0]);
      const markers = ['', 'nonsense', `${partition}:-1`, `${(partition + 1) % 3}:${id.split(':')[1]}`];
      await producer.send({
        topic: DLQ,
        messages: markers.map((marker) => ({ partition, value: null, headers: { 'dlq-resolves': marker } })),
      });
      expect(await openIds()).toEqual([id]);
    });

    it('reads a letter that is larger than what a fetch asks for', async () => {
      const id = await bury({ value: Buffer.alloc(1_500_000, 'x') });
      expect(await openIds()).toEqual([id]);
    });

    it('comes to its end when what it is about to read is deleted', async () => {
      for (const ms of [0, 10, 20, 40, 60, 80, 120]) {
        await bury();
        const reading = open();
        await delay(ms);
        await empty();
        expect((await reading).length).toBeLessThanOrEqual(1);
      }
    });

    it('leaves no consumer group behind', async () => {
      await bury();
      await dlq('list');
      const { groups } = await admin.listGroups();
      expect(groups.map(({ groupId }) => groupId)).toEqual(['test']);
    });

    it('comes to its end where a transaction has left a gap there', async () => {
      const id = await bury();
      const kafka = new Kafka({ brokers: [broker.address], logLevel: logLevel.NOTHING });
      const other = kafka.producer({ transactionalId: randomUUID(), idempotent: true, maxInFlightRequests: 1 });
      await other.connect();
      for (const partition of [0, 1, 2]) {
        const transaction = await other.transaction();
        await transaction.send({ topic: DLQ, messages: [{ partition, value: 'undone' }] });
        await transaction.abort();
      }
      await other.disconnect();
      // The broker ends a transaction a moment after it said so.
      await until('the gaps', async () =>
        (await Promise.all(['0:', '1:', '2:'].map(held))).every((records) => records >= 2),
      );
      expect(await openIds()).toEqual([id]);
    });
  });

  describe('show', () => {
    it('shows JSON so that people can read it, and every header', async () => {
      const headers = { ce_type: Buffer.from('order.created'), twice: [Buffer.from('one'), Buffer.from([0xff])] };
      const value = Buffer.from('{"orderId":"ord_1","items":[{"name":"Käse"}]}');
      const id = await bury({ key: Buffer.from('ord_1'), value, headers, reason: 'two\nlines' });
      const { code, out, err } = await dlq('show', id);
      expect([code, err]).toEqual([0, '']);
      expect(out.replaceAll(/\S+Z\b/g, 'TIME')).toBe(`letter ${id} of TIME
key: ord_1
ce_type: order.created
twice: one
twice: base64:/w==
dlq-topic: orders.events
dlq-partition: 1
dlq-offset: 41
dlq-consumer: payments
dlq-reason: two lines
dlq-attempts: 5
dlq-time: TIME

value, 46 bytes:
{
  "orderId": "ord_1",
  "items": [
    {
      "name": "Käse"
    }
  ]
}
`);
    });

    it('shows text as text, else base64, and that there is none', async () => {
      const values = [
        [Buffer.from('{"not": json\n'), 'value, 13 bytes:\n{"not": json\n\n'],
        [Buffer.from([0xc3, 0x28, 0, 1]), 'value, 4 bytes:\nbase64:wygAAQ==\n'],
        [Buffer.from('\u001b[2J'), 'value, 4 bytes:\nbase64:G1sySg==\n'], // a terminal would obey it
        [Buffer.from('one\r\ntwo'), 'value, 8 bytes:\none\r\ntwo\n'],
        [Buffer.from('one\rtwo'), 'value, 7 bytes:\nbase64:b25lDXR3bw==\n'],
        [Buffer.from('\u202eon'), 'value, 5 bytes:\nbase64:4oCub24=\n'],
        [Buffer.from('["\u202e\u009b\u{e0001}é"]'), 'value, 15 bytes:\n[\n  "\\u202e\\u009b\\udb40\\udc01é"\n]\n'],
        [Buffer.alloc(0), 'value, 0 bytes:\n\n'],
        [null, 'no value\n'],
      ] as const;
      const ids: string[] = [];
      for (const [value] of values) ids.push(await bury({ key: null, value }));
      const shown = await Promise.all(ids.map((id) => dlq('show', id)));
      expect(shown.map(({ out }) => out.slice(out.indexOf('\n\n') + 2))).toEqual(
        values.map(([, expected]) => expected),
      );
      expect(shown[0]?.out).toContain('\nkey: none\n');
    });
  });

  it('lists, shows and rewrites a letter of a time that no calendar has', async () => {
    const good = await bury();
    const timestamps = ['-9000000000000000'];
    await producer.send({ topic: DLQ, messages: timestamps.map((timestamp) => ({ value: '{}', timestamp })) });
    const lines = async (...args: string[]) => (await dlq(...args)).out.trim().split('\n');
    expect((await lines('list', '--json')).map((line) => (JSON.parse(line) as { time: string }).time)).toEqual([
      '-271821-04-20T00:00:00.000Z',
      (await open()).find(({ id }) => id === good)?.time.toISOString(),
    ]);
    const [first = ''] = await lines('list');
    expect((await dlq('show', first.split(' ')[0] ?? '')).out).toMatch(/^letter \S+ of -271821-04-20T00:00:00\.000Z\n/);
    const box = await DeadLetterBox.open(settings(broker.address), DLQ);
    expect(await box.rewrite(new Set([0, 1, 2]), () => Buffer.from('changed'))).toBe(2);
    await box.close();
    expect((await open()).map(({ value }) => String(value))).toEqual(['changed', 'changed']);
  });

  it('shows, replays and rewrites letters whatever their headers are named', async () => {
    const key = Buffer.from(randomUUID());
    const names = ['constructor', 'toString', 'valueOf', '__proto__'];
    const headers = Object.fromEntries([...names, 'dlq-topic'].map((name) => [name, ORIGIN]));
    await producer.send({ topic: DLQ, messages: [{ key, value: '{}', headers }] });
    const [id = ''] = await openIds();
    const { code, out } = await dlq('show', id);
    expect(code).toBe(0);
    for (const name of names) expect(out.split('\n')).toContain(`${name}: ${ORIGIN}`);
    const partitions = new Set([Number(id.split(':')[0])]);
    const box = await DeadLetterBox.open(settings(broker.address), DLQ);
    expect(await box.rewrite(partitions, () => Buffer.from('changed'))).toBe(1);
    await box.close();
    expect((await dlq('replay', '--all')).code).toBe(0);
    const message = await until('the message', () => arrivedWith(key)[0] ?? false);
    expect(String(message.value)).toBe('changed');
    // Read by kafkajs, which puts before each what it finds in every object.
    for (const name of names) expect([message.headers?.[name]].flat().at(-1)).toEqual(Buffer.from(ORIGIN));
  });

  it('shows JSON as it is where indented it would be many times larger, or is large', async () => {
    const nested = (depth: number) => '['.repeat(depth) + ']'.repeat(depth);
    const many = (depth: number, times: number) => `[${Array(times).fill(nested(depth)).join(',')}]`;
    for (const value of [many(3_000, 20), many(3_000, 10), many(100, 300), JSON.stringify('x'.repeat(65_536))]) {
      const { code, out } = await dlq('show', await bury({ value: Buffer.from(value) }));
      expect([code, out.length < value.length + 1_000]).toEqual([0, true]);
      expect(out.slice(out.indexOf('\n\n') + 2)).toBe(`value, ${value.length} bytes:\n${value}\n`);
    }
  });

  describe('replay', () => {
    it('publishes what had come, byte for byte, and nothing that was added', async () => {
      const key = Buffer.from([0, 0xff, ...randomBytes(8)]);
      const value = Buffer.from([0xc3, 0x28, 0, 1]);
      const headers = {
        ce_type: Buffer.from('order.created'),
        traceparent: Buffer.from('00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01'),
        binary: Buffer.from([0, 0xfe]),
        twice: [Buffer.from('one'), Buffer.from('two')],
      };
      const other = await bury();
      const id = await bury({ key, value, headers });
      expect(await dlq('replay', id)).toEqual({ code: 0, out: `${id} replayed to orders.events\n`, err: '' });
      const message = await until('the message', () => arrivedWith(key)[0] ?? false);
      expect(message.value).toEqual(value);
      expect(message.headers).toEqual(headers);
      expect(await openIds()).toEqual([other]);
      expect(arrivedWith(key)).toHaveLength(1);
    });

    it('publishes a message without key, value and headers as one', async () => {
      const before = arrived.length;
      await dlq('replay', await bury({ key: null, value: null }));
      await until('the message', () => arrived.length > before);
      expect(arrived[before]).toMatchObject({ key: null, value: null, headers: {} });
      expect(await openIds()).toEqual([]);
    });

    it('brings the messages of a key in their order', async () => {
      const key = Buffer.from(randomUUID());
      const ids: string[] = [];
      for (const n of ['1', '2', '3']) ids.push(await bury({ key, value: Buffer.from(n) }));
      const out = ids.map((id) => `${id} replayed to orders.events\n`).join('');
      expect(await dlq('replay', '--all')).toEqual({ code: 0, out, err: '' });
      await until('the messages', () => arrivedWith(key).length === 3);
      expect(arrivedWith(key).map(({ value }) => String(value))).toEqual(['1', '2', '3']);
      expect(await openIds()).toEqual([]);
    });

    it('leaves the letter open when its message was not taken', async () => {
      const id = await bury({ value: Buffer.from(TOO_LARGE_FOR_ORIGIN) });
      const { code, out, err } = await dlq('replay', id);
      expect([code, out]).toEqual([1, '']);
      expect(err).toMatch(new RegExp(`^${id} is still open: .*max message size.*\n$`));
      expect(await openIds()).toEqual([id]);
    });

    it.each<[string, IHeaders, string]>([
      ['does not say where it came from', {}, 'does not say where it came from (dlq-topic)'],
      ['names a topic of others', { 'dlq-topic': 'payroll\n' }, 'names payroll, whose letters are not here'],
    ])('refuses a letter that %s, and does nothing', async (_, headers, reason) => {
      const key = Buffer.from(randomUUID());
      const good = await bury({ key });
      await producer.send({ topic: DLQ, messages: [{ value: '{}', headers }] });
      const bad = (await openIds()).find((id) => id !== good);
      expect(await dlq('replay', '--all')).toEqual({
        code: 1,
        out: '',
        err: `${bad} ${reason}, so drop it; nothing was done\n`,
      });
      expect(await openIds()).toHaveLength(2);
      expect((await dlq('drop', String(bad))).code).toBe(0);
      expect(await openIds()).toEqual([good]);
      expect(arrivedWith(key)).toEqual([]);
    });

    it('goes on for longer than a fetch, and ends with what cannot be published', async () => {
      const key = Buffer.from(randomUUID());
      const message = (n: number) => ({ key, value: `${n} ${'x'.repeat(9_000)}`, headers: { 'dlq-topic': ORIGIN } });
      const messages = Array.from({ length: 300 }, (_, n) => message(n));
      await producer.send({ topic: DLQ, messages: messages.slice(0, 90) });
      await producer.send({ topic: DLQ, messages: messages.slice(90, 180) });
      await producer.send({ topic: DLQ, messages: messages.slice(180, 299) });
      await producer.send({
        topic: DLQ,
        messages: [{ key, value: TOO_LARGE_FOR_ORIGIN, headers: { 'dlq-topic': ORIGIN } }],
      });
      await producer.send({ topic: DLQ, messages: messages.slice(299) });
      const ids = await openIds();
      const { code, out, err } = await dlq('replay', '--all');
      expect(code).toBe(1);
      expect(err).toMatch(new RegExp(`^${ids[299]} is still open: `));
      expect(out.trim().split('\n')).toHaveLength(299);
      await until('the messages', () => arrivedWith(key).length === 299);
      expect(arrivedWith(key).map(({ value }) => parseInt(String(value)))).toEqual(
        Array.from({ length: 299 }, (_, n) => n),
      );
      expect(await openIds()).toEqual(ids.slice(299));
    });

    it('says which are no longer there', async () => {
      const key = Buffer.from(randomUUID());
      await bury({ key });
      const box = await DeadLetterBox.open(settings(broker.address), DLQ);
      await empty();
      await expect(box.each(box.ids, (letter) => box.replay(letter))).rejects.toThrow(
        `${box.ids[0]} is no longer in ${DLQ}`,
      );
      await box.close();
      expect(arrivedWith(key)).toEqual([]);
    });

    it('says that there is none', async () => {
      expect(await dlq('replay', '--all')).toEqual({ code: 0, out: NONE, err: '' });
    });
  });

  describe('drop', () => {
    it('does away with letters and publishes nothing', async () => {
      const key = Buffer.from(randomUUID());
      const [first, second] = [await bury({ key }), await bury({ key })];
      expect(await dlq('drop', second, first, second)).toEqual({
        code: 0,
        out: `${first} dropped\n${second} dropped\n`,
        err: '',
      });
      expect(await openIds()).toEqual([]);
      expect(await held(first)).toBe(0);
      expect(arrivedWith(key)).toEqual([]);
    });

    it('deletes from the topic what is resolved, up to the first open letter', async () => {
      const key = Buffer.from(randomUUID());
      const drop = async (id: string) => {
        const box = await DeadLetterBox.open(settings(broker.address), DLQ);
        await box.drop(id);
        await box.deleteResolved();
        await box.close();
      };
      const [first, second, third] = [await bury({ key }), await bury({ key }), await bury({ key })];
      expect(await held(first)).toBe(3);
      await drop(second);
      expect(await held(first)).toBe(4); // the marker came to it
      await drop(first);
      expect(await held(first)).toBe(3); // the third letter and two markers
      expect(await openIds()).toEqual([third]);
      await drop(third);
      expect(await held(first)).toBe(0);
      expect(await openIds()).toEqual([]);
      const next = await bury({ key });
      expect(await openIds()).toEqual([next]);
    });

    it('keeps a letter that came meanwhile', async () => {
      const key = Buffer.from(randomUUID());
      const first = await bury({ key });
      const box = await DeadLetterBox.open(settings(broker.address), DLQ);
      const meanwhile = await bury({ key });
      for (const id of box.ids) await box.drop(id);
      await box.deleteResolved();
      await box.close();
      expect(await openIds()).toEqual([meanwhile]);
      expect(await held(first)).toBe(2); // with the marker of the first
    });

    it('finds resolved what a run resolved that was killed before it deleted', async () => {
      const id = await bury();
      const box = await DeadLetterBox.open(settings(broker.address), DLQ);
      await box.each(box.ids, (letter) => box.replay(letter));
      await box.close();
      expect(await held(id)).toBe(2);
      expect(await openIds()).toEqual([]);
      const unknown = { code: 1, err: `There is no open letter ${id} in orders.events.dlq; nothing was done\n` };
      expect(await dlq('replay', id)).toMatchObject(unknown);
      expect(await dlq('replay', '--all')).toEqual({ code: 0, out: NONE, err: '' });
      expect(await held(id)).toBe(0);
    });

    it('warns when the broker does not let it delete', async () => {
      const preload = path.join(mkdtempSync(path.join(tmpdir(), 'order-dlq-')), 'preload.cjs');
      writeFileSync(
        preload,
        `const { Kafka } = require(${JSON.stringify(path.resolve('node_modules/kafkajs'))});
         const { admin } = Kafka.prototype;
         const deleteTopicRecords = async () => { throw new Error('not authorized'); };
         Kafka.prototype.admin = function () { return { ...admin.call(this), deleteTopicRecords }; };`,
      );
      const id = await bury();
      const NODE_OPTIONS = `--require ${preload}`;
      expect(await run('dlq', broker.address, ['drop', id], { DATABASE_URL: database.url, NODE_OPTIONS })).toEqual({
        code: 0,
        out: `${id} dropped\n`,
        err: 'The letters are resolved, but orders.events.dlq still holds them; the next replay or drop tries again: Error: not authorized\n',
      });
      expect(await openIds()).toEqual([]);
      expect(await held(id)).toBe(2);
    });
  });

  describe('DeadLetterGauge', () => {
    const records = new Gauge({ name: 'records', help: '-', registers: [] });
    const measured = async (address = broker.address, topic = ORIGIN) => {
      await new DeadLetterGauge(settings(address), topic, records).measure();
      return (await records.get()).values.map(({ value }) => value);
    };

    it('is above 0 while a letter is open, and 0 when none is', async () => {
      expect(await measured()).toEqual([0]);
      const ids: string[] = [];
      for (const key of ['k0', 'k2', 'k2']) ids.push(await bury({ key: Buffer.from(key) })); // of two partitions
      expect(await measured()).toEqual([3]);
      await dlq('drop', ids[0] ?? '', ids[2] ?? '');
      expect(await measured()).toEqual([3]); // the second, and behind it the third with its marker
      await dlq('drop', ids[1] ?? '');
      expect(await measured()).toEqual([0]);
    });

    it('says nothing where there is no topic, which it does not create, nor while Kafka is away', async () => {
      await bury();
      expect(await measured()).toEqual([1]);
      expect(await measured(broker.address, 'unknown')).toEqual([]);
      expect(await admin.listTopics()).not.toContain('unknown.dlq');
      expect(await measured()).toEqual([1]);
      expect(await measured(`127.0.0.1:${await freePort()}`)).toEqual([]);
    });
  });

  describe('KafkaDeadLetters', () => {
    it('replaces what an earlier letter had added', async () => {
      const headers = {
        ce_id: Buffer.from('evt_1'),
        'dlq-consumer': Buffer.from('old'),
        'dlq-resolves': Buffer.from('0:0'),
      };
      const id = await bury({ headers, value: null, consumer: 'new', attempts: 2 });
      const letter = (await open()).find((each) => each.id === id);
      expect(letter?.headers).toEqual({
        ce_id: Buffer.from('evt_1'),
        'dlq-topic': Buffer.from(ORIGIN),
        'dlq-partition': Buffer.from('1'),
        'dlq-offset': Buffer.from('41'),
        'dlq-consumer': Buffer.from('new'),
        'dlq-reason': Buffer.from('no luck'),
        'dlq-attempts': Buffer.from('2'),
        'dlq-time': Buffer.from(letter?.time.toISOString() ?? ''),
      });
    });

    it('keeps a header that has no value, as an empty one', async () => {
      const headers = { nothing: null, twice: [null, Buffer.from('a')] } as unknown as IHeaders;
      const id = await bury({ headers });
      const letter = (await open()).find((each) => each.id === id);
      expect(letter?.headers).toMatchObject({ nothing: Buffer.alloc(0), twice: [Buffer.alloc(0), Buffer.from('a')] });
    });

    describe('where the topic takes small letters alone', () => {
      /** Returns when every broker acts on it, which is after it answered. */
      async function limit(bytes: number): Promise<void> {
        const configEntries = [{ name: 'max.message.bytes', value: String(bytes) }];
        const resources = [{ type: ConfigResourceTypes.TOPIC, name: DLQ, configEntries }];
        await admin.alterConfigs({ validateOnly: false, resources });
        await until('the limit', async () => {
          const value = Buffer.alloc(bytes + 1, 'x');
          const sends = [0, 1, 2].map((partition) => producer.send({ topic: DLQ, messages: [{ partition, value }] }));
          return (await Promise.allSettled(sends)).every(({ status }) => status === 'rejected');
        });
        await empty();
      }
      afterAll(() => limit(2_097_176));

      it('cuts the reason when the letter is too large with it', async () => {
        await limit(10_000);
        const reason = 'The reason is long. '.repeat(50);
        const id = await bury({ value: Buffer.alloc(9_300, 'x'), reason });
        const letter = (await open()).find((each) => each.id === id);
        expect(letter?.value).toHaveLength(9_300);
        expect(String(letter?.headers['dlq-reason'])).toBe(reason.slice(0, 40));
      });

      it('leaves out the value when the letter is too large with it, says where it is, and replays no such letter', async () => {
        await limit(10_000);
        const key = Buffer.from(randomUUID());
        const other = await bury({ key });
        const headers = { ce_type: Buffer.from('order.created') };
        const id = await bury({ key, headers, value: Buffer.alloc(10_001, 'x') });
        expect((await dlq('list')).out).toContain(
          `order.created  ${String(key)}  payments  attempts=5  no luck (too large to keep: value)\n`,
        );
        const { out } = await dlq('show', id);
        expect(out).toContain('\ndlq-omitted: value\n');
        expect(out).toMatch(/\n\nthe message is not here, but in orders\.events, partition 1, offset 41\n$/);
        const refusal = {
          code: 1,
          out: '',
          err: `${id} was too large to keep: its message is in orders.events, partition 1, offset 41, so drop it; nothing was done\n`,
        };
        expect(await dlq('replay', id)).toEqual(refusal);
        expect(await dlq('replay', '--all')).toEqual(refusal);
        const box = await DeadLetterBox.open(settings(broker.address), DLQ);
        await expect(box.each([id], (letter) => box.replay(letter))).rejects.toThrow('was too large to keep');
        await box.close();
        expect(await openIds()).toEqual([other, id]);
        expect(arrivedWith(key)).toEqual([]);
        expect((await dlq('drop', id)).code).toBe(0);
      });

      it('leaves out key and headers too when they are what is too large', async () => {
        await limit(10_000);
        for (const large of [{ key: Buffer.alloc(10_001, 'x') }, { headers: { large: 'x'.repeat(10_001) } }]) {
          const id = await bury(large);
          const letter = (await open()).find((each) => each.id === id);
          expect([letter?.key, letter?.value]).toEqual([null, null]);
          expect(letter?.headers).toEqual({
            'dlq-topic': Buffer.from(ORIGIN),
            'dlq-partition': Buffer.from('1'),
            'dlq-offset': Buffer.from('41'),
            'dlq-consumer': Buffer.from('payments'),
            'dlq-reason': Buffer.from('no luck (too large to keep: key, headers, value)'),
            'dlq-attempts': Buffer.from('5'),
            'dlq-time': Buffer.from(letter?.time.toISOString() ?? ''),
            'dlq-omitted': Buffer.from('key, headers, value'),
          });
        }
      });

      it('rejects a letter when even that is too large', async () => {
        await limit(100);
        await expect(bury({ value: Buffer.alloc(10_001, 'x') })).rejects.toThrow('larger than the max');
        expect(await openIds()).toEqual([]);
      });
    });

    it('rejects when there is no dead letter topic', async () => {
      await expect(bury({ topic: 'no-such-topic' })).rejects.toThrow('topic-partition');
      expect(await openIds()).toEqual([]);
    });

    it('takes letters at once', async () => {
      const message = { key: null, value: null, headers: {} };
      const letter = { message, topic: ORIGIN, partition: 0, offset: '1', consumer: 'c', attempts: 1 };
      const fresh = new KafkaDeadLetters(settings(broker.address));
      await Promise.all(['a', 'b', 'c', 'd'].map((reason) => fresh.send({ ...letter, reason })));
      await fresh.onApplicationShutdown();
      const reasons = (await open()).map(({ headers }) => String(headers['dlq-reason']));
      expect(reasons.toSorted()).toEqual(['a', 'b', 'c', 'd']);
    });
  });

  describe('rewrite', () => {
    it('leaves nothing of what letters said, open or resolved, and the others in their order', async () => {
      const key = Buffer.from(randomUUID());
      const say = (text: string) => bury({ key, value: Buffer.from(text) });
      const change = ({ value }: Letter) => (String(value).startsWith('secret') ? Buffer.from('changed') : undefined);
      const first = await say('one');
      await dlq('drop', await say('secret, and dropped'));
      await say('secret');
      await say('two');
      const partition = Number(first.split(':')[0]);
      await producer.send({ topic: DLQ, messages: [{ partition: (partition + 1) % 3, value: 'elsewhere' }] });
      const [other] = (await openIds()).filter((id) => !id.startsWith(`${partition}:`));
      const touched = new Set<number>();
      const box = await DeadLetterBox.open(settings(broker.address), DLQ, (letter) => {
        if (change(letter)) touched.add(letter.partition);
      });
      expect([...touched]).toEqual([partition]);
      expect(await box.rewrite(touched, change)).toBe(1);
      await box.close();
      const said = (await open()).filter((letter) => letter.key?.equals(key)).map(({ value }) => String(value));
      expect(said).toEqual(['one', 'changed', 'two']);
      expect(await openIds()).toContain(other);
      const records: string[] = [];
      const reading = await DeadLetterBox.open(settings(broker.address), DLQ, ({ value }) =>
        records.push(String(value)),
      );
      await reading.close();
      expect(records.filter((text) => text.includes('secret'))).toEqual([]);
    });

    it('leaves a letter where it was in the topic, of the time that it had', async () => {
      const timestamp = String(Date.now() - 20 * 24 * 3_600_000);
      const partitions = [1, 2, 2, 2]; // letters without a key would be spread evenly
      const letters = partitions.map((partition) => ({ partition, key: null, value: 'secret', timestamp }));
      await producer.send({ topic: DLQ, messages: letters });
      const box = await DeadLetterBox.open(settings(broker.address), DLQ);
      expect(await box.rewrite(new Set(partitions), () => Buffer.from('changed'))).toBe(4);
      await box.close();
      const rewritten = (await open()).sort((a, b) => a.partition - b.partition);
      const time = new Date(Number(timestamp));
      expect(rewritten).toMatchObject(
        partitions.map((partition) => ({ partition, time, value: Buffer.from('changed') })),
      );
    });

    it('changes and deletes nothing once it may not, such as after the lock was lost', async () => {
      const key = Buffer.from(randomUUID());
      const resolved = await bury({ key });
      const id = await bury({ key });
      let mayChange = true;
      const box = await DeadLetterBox.open(settings(broker.address), DLQ, undefined, async () => {
        if (!mayChange) throw new Error('the lock was lost');
      });
      await box.drop(resolved);
      mayChange = false;
      const partitions = new Set([Number(id.split(':')[0])]);
      await expect(box.rewrite(partitions, () => Buffer.from('changed'))).rejects.toThrow('the lock was lost');
      await expect(box.deleteResolved()).rejects.toThrow('the lock was lost');
      await box.close();
      expect((await open()).map((letter) => [letter.id, String(letter.value)])).toEqual([[id, '{"n":1}']]);
      expect(await held(id)).toBe(3); // with the marker of the first
    });
  });

  describe('npm run dlq', () => {
    it('explains itself when called otherwise', async () => {
      const wrong = [
        '',
        'lost',
        'list 0:1',
        'show 0:1 0:2',
        'replay',
        'replay 0-1',
        'replay 0:1 --all',
        'drop --all --json',
      ];
      const runs = await Promise.all(wrong.map((line) => dlq(...line.split(' ').filter((word) => word !== ''))));
      for (const each of runs) expect(each).toEqual({ code: 1, out: '', err: USAGE });
    });

    it.each(['show', 'replay', 'drop'])('%s names ids that are not there, and does nothing', async (command) => {
      const key = Buffer.from(randomUUID());
      const id = await bury({ key });
      const args = command === 'show' ? ['7:1'] : [id, '7:1', '7:2'];
      const missing = command === 'show' ? '7:1' : '7:1, 7:2';
      expect(await dlq(command, ...args)).toEqual({
        code: 1,
        out: '',
        err: `There is no open letter ${missing} in orders.events.dlq; nothing was done\n`,
      });
      expect(await openIds()).toEqual([id]);
      expect(arrivedWith(key)).toEqual([]);
    });

    it.each(['replay', 'drop'])('%s does nothing while an erasure rewrites the letters', async (command) => {
      const key = Buffer.from(randomUUID());
      const id = await bury({ key });
      const config = loadConfig(SERVICE_NAME, environment({ DATABASE_URL: database.url }));
      const hadLock = await withDeadLetterLock(config, 'an erasure', async () => {
        expect(await dlq(command, '--all')).toEqual({
          code: 1,
          out: '',
          err: 'An erasure or another command is changing orders.events.dlq; nothing was done: try again\n',
        });
      });
      expect(hadLock).toBe(true);
      expect(await openIds()).toEqual([id]);
      expect(arrivedWith(key)).toEqual([]);
    });

    it.each(['replay', 'drop'])('%s does nothing after it has lost the lock', async (command) => {
      const key = Buffer.from(randomUUID());
      const id = await bury({ key });
      const running = dlq(command, '--all');
      // It joins a consumer group then, which takes far longer.
      await until('the end of its session', async () => {
        const end = `SELECT pg_terminate_backend(pid) FROM pg_stat_activity JOIN pg_locks USING (pid)
                     WHERE datname = current_database() AND application_name = 'order-service dlq'
                       AND locktype = 'advisory' AND granted`;
        return (await database.query(end)).length > 0;
      });
      expect(await running).toEqual({
        code: 1,
        out: '',
        err: `${id} is still open: Error: the database was lost, and with it the lock on the dead letters\n`,
      });
      expect(await openIds()).toEqual([id]);
      expect(arrivedWith(key)).toEqual([]);
    });

    it('needs to know where Kafka is', async () => {
      expect(await run('dlq', '', ['list'])).toEqual({ code: 1, out: '', err: 'KAFKA_BROKERS is required\n' });
    });

    it('says that Kafka is away', async () => {
      const address = `127.0.0.1:${await freePort()}`;
      const { code, out, err } = await run('dlq', address, ['list']);
      expect([code, out]).toEqual([1, '']);
      expect(err).toBe(`Kafka cannot be reached at ${address}: Connection error: connect ECONNREFUSED ${address}\n`);
    });

    it('does not wait for a Kafka that is silent', async () => {
      const { address, result, ms } = await withSilence;
      expect(result).toEqual({
        code: 1,
        out: '',
        err: `Kafka cannot be reached at ${address}: no answer for 8 s\n`,
      });
      expect(ms).toBeLessThan(20_000);
    });
  });

  /** The last of all: it stops the broker. */
  describe('While Kafka is away', () => {
    it('letters are rejected, and when Kafka is back they are taken, over old connections and new', async () => {
      await bury();
      const unconnected = new KafkaDeadLetters(settings(broker.address));
      await consumer.disconnect();
      await broker.stop();
      const message = { key: null, value: null, headers: {} };
      const letter = { message, topic: ORIGIN, partition: 0, offset: '1', consumer: 'c', reason: 'r', attempts: 1 };
      for (const each of [deadLetters, unconnected]) await expect(each.send(letter)).rejects.toThrow('ECONNREFUSED');
      await startBroker();
      // A broker that answers need not lead its partitions yet.
      await until('every partition', () => ends().catch(() => false as const));
      for (const each of [deadLetters, unconnected]) await each.send(letter);
      await unconnected.onApplicationShutdown();
      expect(await openIds()).toHaveLength(3);
    });
  });
});
