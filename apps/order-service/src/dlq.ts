import { isUtf8 } from 'node:buffer';
import { readArguments } from '@platform/arguments';
import { type Config, loadConfig } from '@platform/config';
import {
  DeadLetterBox,
  deadLetterTopicOf,
  fullMessageLocation,
  headerText,
  type Letter,
  oneLine,
  replayObstacle,
} from '@platform/kafka';
import { ORDERS_TOPIC } from './orders-topic';
import { SERVICE_NAME } from './service-name';

const USAGE =
  'usage: npm run dlq -- list [--json] | show ID | replay ID…|--all | drop ID…|--all   (ID: PARTITION:OFFSET)';

/** Limits for pretty-printing: the indentation of a small but deeply nested value would take hundreds of megabytes. */
const MAX_INDENTED_BYTES = 64 * 1024;
const MAX_INDENTED_DEPTH = 16;

const TOPIC = deadLetterTopicOf(ORDERS_TOPIC);
const NONE = `There are no open letters in ${TOPIC}`;

type Command =
  | { readonly name: 'list'; readonly json: boolean }
  | { readonly name: 'show'; readonly id: string }
  | { readonly name: 'replay' | 'drop'; readonly ids: readonly string[] | 'all' };
type Resolution = Extract<Command, { ids: unknown }>;
type Settings = NonNullable<Config['kafka']>;

/** Lists, shows, replays and drops dead letters of the orders topic; see `docs/runbooks/dead-letters.md`. */
async function main(): Promise<void> {
  const command = parse();
  const config = loadConfig(SERVICE_NAME);
  const { kafka } = config;
  if (!kafka) throw new Error('KAFKA_BROKERS is required');
  if (command.name === 'list') return list(kafka, command.json);
  if (command.name === 'show') return show(kafka, command.id);
  const { withDeadLetterLock } = await import('./dead-letter-lock.js'); // its dependencies take a second to load
  const hadLock = await withDeadLetterLock(config, 'dlq', (assertLockHeld) => resolve(kafka, command, assertLockHeld));
  if (!hadLock) throw new Error(`An erasure or another command is changing ${TOPIC}; nothing was done: try again`);
}

function parse(): Command {
  const { values, positionals } = readArguments(USAGE, {
    allowPositionals: true,
    options: { json: { type: 'boolean' }, all: { type: 'boolean' } },
  });
  const { json = false, all = false } = values;
  const [name, ...ids] = positionals;
  const wrong = new Error(USAGE);
  if (name === 'list' && ids.length === 0 && !all) return { name, json };
  if (json || !ids.every((id) => /^\d+:\d+$/.test(id))) throw wrong;
  const [id] = ids;
  if (name === 'show' && id !== undefined && ids.length === 1 && !all) return { name, id };
  if ((name === 'replay' || name === 'drop') && all === (ids.length === 0)) return { name, ids: all ? 'all' : ids };
  throw wrong;
}

async function withBox(
  settings: Settings,
  visit: (letter: Letter) => void,
  work: (box: DeadLetterBox) => void | Promise<void>,
  beforeChange?: () => Promise<unknown>,
): Promise<void> {
  const box = await DeadLetterBox.open(settings, TOPIC, visit, beforeChange);
  try {
    await work(box);
  } finally {
    await box.close();
  }
}

/** @returns the ids in the order of the topic. @throws {Error} when one of them is not open */
function choose(open: readonly string[], ids: readonly string[] | 'all'): readonly string[] {
  if (ids === 'all') return open;
  const chosen = new Set(ids);
  const unknown = chosen.difference(new Set(open));
  if (unknown.size > 0) {
    throw new Error(`There is no open letter ${[...unknown].join(', ')} in ${TOPIC}; nothing was done`);
  }
  return open.filter((id) => chosen.has(id));
}

async function list(settings: Settings, json: boolean): Promise<void> {
  const lines = new Map<string, { readonly time: Date; readonly text: string }>();
  const visit = (letter: Letter) =>
    lines.set(letter.id, { time: letter.time, text: json ? escaped(JSON.stringify(summary(letter))) : line(letter) });
  await withBox(settings, visit, ({ ids }) => {
    // With --json standard output is for programs, so it stays empty.
    if (ids.length === 0) return json ? console.error(NONE) : console.log(NONE);
    const open = ids.flatMap((id) => lines.get(id) ?? []);
    open.sort((a, b) => a.time.getTime() - b.time.getTime());
    console.log(open.map(({ text }) => text).join('\n'));
  });
}

function summary({ id, time, key, headers, origin }: Letter) {
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

function line(letter: Letter): string {
  const { id, time, type, key, consumer, attempts, reason } = summary(letter);
  const tried = `attempts=${attempts ?? '-'}`;
  return [id, time, type, key, consumer, tried, reason].map((field) => oneLine(field ?? '-')).join('  ');
}

async function show(settings: Settings, id: string): Promise<void> {
  let letter: Letter | undefined;
  const visit = (each: Letter) => {
    if (each.id === id) letter = each;
  };
  await withBox(settings, visit, ({ ids }) => {
    choose(ids, [id]);
    if (letter) print(letter);
  });
}

function print(letter: Letter): void {
  const { id, time, key, value, headers } = letter;
  console.log(`letter ${id} of ${time.toISOString()}\nkey: ${key ? oneLine(toText(key)) : 'none'}`);
  for (const [name, values] of Object.entries(headers)) {
    // A header may come more than once.
    for (const each of [values].flat()) console.log(`${oneLine(name)}: ${oneLine(toText(Buffer.from(each ?? '')))}`);
  }
  const place = fullMessageLocation(letter);
  if (place !== undefined) console.log(`\nthe message is not here, but in ${place}`);
  else console.log(value ? `\nvalue, ${value.length} bytes:\n${indented(value)}` : '\nno value');
}

/** UTF-8 text as it is; base64 for other bytes, and for text with characters that would control a terminal. */
function toText(bytes: Buffer): string {
  const text = bytes.toString();
  return isUtf8(bytes) && !/(?!\r?\n|\t)[\p{Cc}\p{Cf}]/u.test(text) ? text : `base64:${bytes.toString('base64')}`;
}

function indented(value: Buffer): string {
  if (value.length > MAX_INDENTED_BYTES) return toText(value);
  try {
    const json: unknown = JSON.parse(value.toString());
    return depthOf(json) > MAX_INDENTED_DEPTH ? toText(value) : escaped(JSON.stringify(json, null, 2));
  } catch {
    return toText(value);
  }
}

/** Equivalent JSON with characters escaped that would control a terminal, such as changes of writing direction. */
function escaped(json: string): string {
  return json.replace(/(?!\n)[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, (character) =>
    character.replace(/[^]/g, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`),
  );
}

function depthOf(json: unknown): number {
  return typeof json === 'object' && json !== null ? 1 + Math.max(0, ...Object.values(json).map(depthOf)) : 0;
}

async function resolve(
  settings: Settings,
  { name, ids }: Resolution,
  assertLockHeld: () => Promise<unknown>,
): Promise<void> {
  const obstacles = new Map<string, string>();
  const visit = (letter: Letter) => {
    const obstacle = replayObstacle(letter, TOPIC);
    if (obstacle !== undefined) obstacles.set(letter.id, obstacle);
  };
  const work = async (box: DeadLetterBox) => {
    const chosen = choose(box.ids, ids);
    if (chosen.length === 0) console.log(NONE);
    const kept = name === 'replay' && chosen.find((id) => obstacles.has(id));
    if (kept) throw new Error(`${kept} ${obstacles.get(kept)}, so drop it; nothing was done`);
    if (name === 'replay') await box.each(chosen, (letter) => replay(box, letter));
    else for (const id of chosen) await drop(box, id);
    await box.deleteResolved().catch((error: unknown) => {
      console.warn(
        `The letters are resolved, but ${TOPIC} still holds them; the next replay or drop tries again: ${String(error)}`,
      );
    });
  };
  await withBox(settings, visit, work, assertLockHeld);
}

async function replay(box: DeadLetterBox, letter: Letter): Promise<void> {
  await box.replay(letter).catch(stillOpen(letter.id));
  console.log(`${letter.id} replayed to ${letter.origin}`);
}

async function drop(box: DeadLetterBox, id: string): Promise<void> {
  await box.drop(id).catch(stillOpen(id));
  console.log(`${id} dropped`);
}

function stillOpen(id: string): (error: unknown) => never {
  return (error) => {
    throw new Error(`${id} is still open: ${oneLine(String(error))}`, { cause: error });
  };
}

main().catch((error: unknown) => {
  console.error(error instanceof Error ? error.message : error);
  process.exit(1); // kafkajs may still be waiting for a broker that is down
});
