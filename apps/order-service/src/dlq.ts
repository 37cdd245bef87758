import { isUtf8 } from 'node:buffer';
import { parseArgs } from 'node:util';
import { loadConfig } from '@platform/config';
import {
  DeadLetterBox,
  deadLetterTopicOf,
  headerText,
  type OpenLetter,
  oneLine,
  ORDERS_TOPIC,
} from '@platform/messaging';

const USAGE =
  'usage: npm run dlq -- list [--json] | show ID | replay ID…|--all | drop ID…|--all   (ID: PARTITION:OFFSET)';

const TOPIC = deadLetterTopicOf(ORDERS_TOPIC);
const NONE = `There are no open letters in ${TOPIC}`;

type Command =
  | { readonly name: 'list'; readonly json: boolean }
  | { readonly name: 'show' | 'replay' | 'drop'; readonly ids: readonly string[] | 'all' };

/** Shows and resolves what the consumers of the orders topic gave up on. `docs/runbooks/dead-letters.md` says how. */
async function main(): Promise<void> {
  const command = parse();
  const { kafka } = loadConfig();
  if (!kafka) throw new Error('KAFKA_BROKERS is required');
  const box = await DeadLetterBox.open(kafka, TOPIC);
  try {
    if (command.name === 'list') return list(box.letters, command.json);
    const letters = choose(box.letters, command.ids);
    if (command.name === 'show') return letters.forEach(show);
    await resolve(box, letters, command.name);
  } finally {
    await box.close();
  }
}

function parse(): Command {
  const wrong = new Error(USAGE);
  let parsed;
  try {
    parsed = parseArgs({ allowPositionals: true, options: { json: { type: 'boolean' }, all: { type: 'boolean' } } });
  } catch {
    throw wrong;
  }
  const { json = false, all = false } = parsed.values;
  const [name, ...ids] = parsed.positionals;
  if (name === 'list' && ids.length === 0 && !all) return { name, json };
  if (json || !ids.every((id) => /^\d+:\d+$/.test(id))) throw wrong;
  if (name === 'show' && ids.length === 1 && !all) return { name, ids };
  if ((name === 'replay' || name === 'drop') && all === (ids.length === 0)) return { name, ids: all ? 'all' : ids };
  throw wrong;
}

/** In the order of the topic, whatever the order of the ids. @throws {Error} when one is not there */
function choose(letters: OpenLetter[], ids: readonly string[] | 'all'): OpenLetter[] {
  if (ids === 'all') return letters;
  const unknown = new Set(ids).difference(new Set(letters.map(({ id }) => id)));
  if (unknown.size > 0) {
    throw new Error(`There is no open letter ${[...unknown].join(', ')} in ${TOPIC}; nothing was done`);
  }
  return letters.filter(({ id }) => ids.includes(id));
}

function list(letters: OpenLetter[], json: boolean): void {
  // With --json the output is for programs, and is empty then.
  if (letters.length === 0) return json ? console.error(NONE) : console.log(NONE);
  const byTime = letters.toSorted((a, b) => a.time.getTime() - b.time.getTime());
  console.log(byTime.map((letter) => (json ? JSON.stringify(summary(letter)) : line(letter))).join('\n'));
}

function summary({ id, time, key, headers, origin }: OpenLetter) {
  const text = (name: string) => headerText(headers, name) ?? null;
  const number = (name: string) => (text(name) === null ? null : Number(text(name)));
  return {
    id,
    time: time.toISOString(),
    type: text('ce_type'),
    key: key && toText(key),
    topic: origin ?? null,
    partition: number('dlq-partition'),
    offset: text('dlq-offset'),
    consumer: text('dlq-consumer'),
    attempts: number('dlq-attempts'),
    reason: text('dlq-reason'),
  };
}

function line(letter: OpenLetter): string {
  const { id, time, type, key, consumer, attempts, reason } = summary(letter);
  const tried = `attempts=${attempts ?? '-'}`;
  return [id, time, type, key, consumer, tried, reason].map((field) => oneLine(field ?? '-')).join('  ');
}

function show({ id, time, key, value, headers }: OpenLetter): void {
  console.log(`letter ${id} of ${time.toISOString()}\nkey: ${key ? oneLine(toText(key)) : 'none'}`);
  for (const [name, values] of Object.entries(headers)) {
    // A header may come more than once.
    for (const each of [values].flat()) console.log(`${oneLine(name)}: ${oneLine(toText(Buffer.from(each ?? '')))}`);
  }
  console.log(value ? `\nvalue, ${value.length} bytes:\n${toText(indented(value))}` : '\nno value');
}

/** Text as it is; as base64 what is none, and what holds characters that a terminal would obey. */
function toText(bytes: Buffer): string {
  const text = bytes.toString();
  return isUtf8(bytes) && !/[^\P{Cc}\t\n\r]/u.test(text) ? text : `base64:${bytes.toString('base64')}`;
}

function indented(value: Buffer): Buffer {
  try {
    return Buffer.from(JSON.stringify(JSON.parse(value.toString()), null, 2));
  } catch {
    return value;
  }
}

async function resolve(box: DeadLetterBox, letters: OpenLetter[], name: 'replay' | 'drop'): Promise<void> {
  if (letters.length === 0) return console.log(NONE);
  const lost = name === 'replay' && letters.find(({ origin }) => origin === undefined);
  if (lost) throw new Error(`${lost.id} does not say where it came from (dlq-topic), so drop it; nothing was done`);
  for (const letter of letters) {
    try {
      await box[name](letter);
    } catch (error) {
      throw new Error(`${letter.id} is still open: ${String(error)}`, { cause: error });
    }
    console.log(name === 'replay' ? `${letter.id} replayed to ${letter.origin}` : `${letter.id} dropped`);
  }
  await box.deleteResolved().catch((error: unknown) => {
    console.warn(`They are resolved, but ${TOPIC} still holds them; the next time is another try: ${String(error)}`);
  });
}

main().catch((error: unknown) => {
  console.error(error instanceof Error ? error.message : error);
  process.exit(1); // kafkajs may still be waiting for a broker that is away
});
