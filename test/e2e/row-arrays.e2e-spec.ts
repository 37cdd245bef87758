import { randomUUID } from 'node:crypto';
import { RowArrays } from '@platform/database';
import { Client } from 'pg';
import { createDatabase, type TestDatabase } from '../support/database';

const THINGS = new RowArrays({
  name: 'text',
  amount: 'numeric',
  told: 'json',
  kept: 'jsonb',
  digest: 'bytea',
  id: 'uuid',
  small: 'smallint',
  whole: 'integer',
  moment: 'timestamptz',
});

type Thing = Parameters<typeof THINGS.parameters>[0][number];

const A_THING: Thing = {
  name: 'a thing',
  amount: '129.90',
  told: '{"b": 1, "a": [2]}',
  kept: '{"b": 1, "a": [2]}',
  digest: Buffer.from([0, 255, 92, 34]),
  id: '01a21f4d-b6c5-7004-be19-3b99e1b068cb',
  small: 201,
  whole: 70_000,
  moment: new Date('2026-11-27T23:18:36.485Z'),
};

const NOTHING = Object.fromEntries(Object.keys(A_THING).map((name) => [name, null])) as unknown as Thing;

describe('Rows as arrays', () => {
  let database: TestDatabase;
  let client: Client;

  beforeAll(async () => {
    database = await createDatabase({ empty: true });
    client = new Client(database.superuserUrl);
    await client.connect();
  });
  afterAll(async () => {
    await client.end();
    await database.drop();
  });

  /** Sends the rows and reads them back. */
  const sent = async (rows: readonly Thing[]) => {
    const { rows: back } = await client.query<Record<keyof Thing, unknown>>(THINGS.select(), THINGS.parameters(rows));
    return back;
  };
  const parsed = (rows: readonly Thing[]) =>
    rows.map((row) => ({
      ...row,
      told: row.told === null ? null : (JSON.parse(row.told) as unknown),
      kept: row.kept === null ? null : (JSON.parse(row.kept) as unknown),
    }));

  it('arrive as they were', async () => {
    expect(await sent([A_THING])).toEqual(parsed([A_THING]));
  });

  it('arrive without values, between others', async () => {
    const rows = [NOTHING, A_THING, NOTHING, { ...NOTHING, id: A_THING.id }];
    expect(await sent(rows)).toEqual(parsed(rows));
  });

  it.each<[string, Partial<Thing>]>([
    ['empty texts and bytes', { name: '', digest: Buffer.alloc(0) }],
    ['what arrays as text would have to escape', { name: '{"a\\b",NULL,\'c\'}\n\t' }],
    ['the word for no value', { name: 'NULL' }],
    ['characters of two, three and four bytes', { name: 'ü€😀', told: '{"ü":"€"}', kept: '{"€":"😀"}' }],
    ['long texts', { name: 'ü'.repeat(100_000), kept: JSON.stringify({ a: 'x'.repeat(100_000) }) }],
    ['JSON that is no object', { told: 'null', kept: '[]' }],
    ['amounts with all their decimals', { amount: '0.000' }],
    ['amounts below zero', { amount: '-12345678901234567890.10' }],
    ['the smallest numbers', { small: -(2 ** 15), whole: -(2 ** 31) }],
    ['the largest numbers', { small: 2 ** 15 - 1, whole: 2 ** 31 - 1 }],
    ['moments before PostgreSQL begins to count', { moment: new Date('1969-12-31T23:59:59.999Z') }],
    ['moments far ahead', { moment: new Date('9999-12-31T23:59:59.999Z') }],
  ])('keep %s', async (_, changes) => {
    const rows = [A_THING, { ...A_THING, ...changes }, A_THING];
    expect(await sent(rows)).toEqual(parsed(rows));
  });

  it.each([1, 64, 5_000])('keep their order: %d', async (count) => {
    const rows = Array.from({ length: count }, (_, index) => ({ ...A_THING, name: `${index}`, id: randomUUID() }));
    expect(await sent(rows)).toEqual(parsed(rows));
  });

  it('may be none', async () => {
    expect(await sent([])).toEqual([]);
  });

  it('are not planned again and again, which PostgreSQL decides after five executions', async () => {
    for (let time = 1; time <= 8; time += 1) {
      await client.query({ name: 'things', text: THINGS.select(), values: THINGS.parameters([A_THING]) });
    }
    const { rows } = await client.query("SELECT custom_plans FROM pg_prepared_statements WHERE name = 'things'");
    expect(rows).toEqual([{ custom_plans: '5' }]);
  });
});
