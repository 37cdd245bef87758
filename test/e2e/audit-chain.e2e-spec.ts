import { setTimeout as delay } from 'node:timers/promises';
import { AuditVerifier, type Block, blockMac } from '@platform/audit';
import { openDirectConnection } from '@platform/database';
import { Client } from 'pg';
import { fromUUID } from 'typeid-js';
import { anOrder, type Api, api, fetchToken, metric } from '../support/client';
import { runToEnd } from '../support/run-program';
import { untilSealed } from '../support/sealed';
import { startService, type TestService } from '../support/service';
import { until } from '../support/until';

const KEY = 'a-key-of-at-least-32-characters-1';
const NEW_KEY = 'a-key-of-at-least-32-characters-2';

let service: TestService;
let orders: Api;

beforeAll(async () => {
  service = await startService({ ROLES: 'api,worker', AUDIT_KEY: KEY });
  orders = api(service.url, await fetchToken('order-orchestrator'));
  for (let block = 0; block < 4; block += 1) {
    await Promise.all(
      Array.from({ length: 5 }, () => orders('/v1/orders', { body: anOrder({ customerId: 'cust_down' }) })),
    );
    await untilSealed(service.database);
  }
});

/** `npm run audit -- …` as an operator runs it, against the service's database. */
const audit = (args: string[], env: NodeJS.ProcessEnv = {}) =>
  runToEnd('audit', { DATABASE_URL: service.config.database.url, AUDIT_KEY: KEY, ...env }, args);

async function verify({ keys = [KEY], head, days = 0 }: { keys?: string[]; head?: string; days?: number } = {}) {
  const client = await openDirectConnection(service.config, 'test', 10_000);
  try {
    return await new AuditVerifier(client, keys, days).verify(head);
  } finally {
    await client.end();
  }
}

async function eventAt(offset: number) {
  const [event] = await service.database.query<{ id: string; position: string }>(
    'SELECT id, position FROM audit_events ORDER BY position OFFSET $1 LIMIT 1',
    [offset],
  );
  if (!event) throw new Error(`There are not ${offset} events`);
  return event;
}

describe('the chain', () => {
  it('covers every event within seconds, and is whole', async () => {
    expect(await verify()).toMatchObject({ events: 20, unsealed: 0, faults: [] });
  });

  it('is verified with any of several keys, so that they can be changed', async () => {
    expect((await verify({ keys: [NEW_KEY, KEY] })).faults).toEqual([]);
    // Not one more for each event: what else is wrong would be lost among them.
    const { blocks, faults } = await verify({ keys: [NEW_KEY] });
    const detail = 'its MAC fits no key in AUDIT_KEY';
    expect(faults).toEqual(Array.from({ length: blocks }, (_, at) => ({ what: 'edited', block: `${at + 1}`, detail })));
  });

  it('does not seal over a transaction that is older than one which has ended', async () => {
    // The one that stays open has the smaller position and the larger number.
    const insert = `INSERT INTO audit_events (id, occurred_at, action, outcome)
                    VALUES (gen_random_uuid(), now(), 'race', 'succeeded')`;
    const [older, younger] = [new Client(service.database.superuserUrl), new Client(service.database.superuserUrl)];
    await Promise.all([older.connect(), younger.connect()]);
    await older.query('BEGIN');
    await older.query('SELECT pg_current_xact_id()');
    await younger.query('BEGIN');
    await younger.query(insert);
    await older.query(insert);
    await older.query('COMMIT');
    await delay(3_000);
    await younger.query('COMMIT');
    await Promise.all([older.end(), younger.end()]);
    await untilSealed(service.database);
    expect(await verify()).toMatchObject({ events: 22, unsealed: 0, faults: [] });
  });

  it('does not miss an event whose transaction was open while later ones were written', async () => {
    await service.database.query('BEGIN');
    await service.database.query(
      `INSERT INTO audit_events (id, occurred_at, action, outcome) VALUES (gen_random_uuid(), now(), 'late', 'succeeded')`,
    );
    await orders('/v1/orders', { body: anOrder({ customerId: 'cust_down' }) });
    await delay(2_500); // more than it takes to seal what is settled
    expect(await verify()).toMatchObject({ events: 22, unsealed: 1 });
    await service.database.query('COMMIT');
    await untilSealed(service.database);
    expect(await verify()).toMatchObject({ events: 24, unsealed: 0, faults: [] });
  });

  it.each([
    ['begins anew', 'number, now(), last_position + 1'],
    ['leaves a gap', 'number + 2, now(), last_position + 1'],
    ['goes back', 'number + 1, now(), last_position'],
    ['covers what there is not', 'number + 1, now(), last_position + 1000000'],
    ['was sealed long ago', "number + 1, now() - interval '31 days', last_position"],
  ])('takes no block from the service that %s', async (_, values) => {
    const login = new Client(service.database.url);
    await login.connect();
    const forged = login.query(
      `INSERT INTO audit_blocks (number, sealed_at, last_position, event_ids, event_macs, previous, mac)
       SELECT ${values}, '{}', '', '', '' FROM audit_blocks ORDER BY number DESC LIMIT 1`,
    );
    await expect(forged).rejects.toThrow('An audit block must follow the newest one');
    await login.end();
  });

  describe('when somebody who may do anything in the database', () => {
    beforeAll(async () => {
      await service.app.close();
      await service.database.query('CREATE TABLE events_before AS TABLE audit_events');
      await service.database.query('CREATE TABLE blocks_before AS TABLE audit_blocks');
      await service.database.query('ALTER TABLE audit_blocks DISABLE TRIGGER USER');
    });
    afterEach(async () => {
      await service.database.query('TRUNCATE audit_events, audit_blocks');
      await service.database.query('INSERT INTO audit_events OVERRIDING SYSTEM VALUE SELECT * FROM events_before');
      await service.database.query('INSERT INTO audit_blocks SELECT * FROM blocks_before');
    });

    it.each([
      ['client_id', "'somebody-else'"],
      ['tenant_id', "'globex'"],
      ['action', "'order.read'"],
      ['object', 'NULL'],
      ['outcome', "'refused'"],
      ['status_code', '500'],
      ['error_code', "'X'"],
      ['request_id', "'other'"],
      ['address', "'10.0.0.1'"],
      ['certificate', "'x'"],
      ['occurred_at', "occurred_at + interval '1 millisecond'"],
    ])('edits %s of an event, names the event', async (column, value) => {
      const event = await eventAt(7);
      await service.database.query(`UPDATE audit_events SET ${column} = ${value} WHERE id = $1`, [event.id]);
      expect((await verify()).faults).toEqual([
        { what: 'edited', event: event.id, detail: expect.stringContaining(`position ${event.position}, block `) },
      ]);
    });

    it('removes an event, names the event', async () => {
      const event = await eventAt(12);
      await service.database.query('DELETE FROM audit_events WHERE id = $1', [event.id]);
      expect((await verify()).faults).toEqual([expect.objectContaining({ what: 'removed', event: event.id })]);
    });

    it('removes all events of the first block, names each, because they are too young for retention', async () => {
      const [{ events } = { events: [] }] = await service.database.query<{ events: string[] }>(
        'SELECT event_ids AS events FROM audit_blocks WHERE number = 1',
      );
      await service.database.query('DELETE FROM audit_events WHERE id = ANY($1)', [events]);
      expect((await verify()).faults).toEqual(
        events.map((event) => expect.objectContaining({ what: 'removed', event }) as unknown),
      );
    });

    it('puts another event in the place of one, names both', async () => {
      const event = await eventAt(5);
      await service.database.query('DELETE FROM audit_events WHERE id = $1', [event.id]);
      const inserted = '01890000-0000-7000-8000-000000000000';
      await service.database.query(
        `INSERT INTO audit_events (position, id, occurred_at, action, outcome) OVERRIDING SYSTEM VALUE
         VALUES ($1, $2, now(), 'order.create', 'succeeded')`,
        [event.position, inserted],
      );
      expect((await verify()).faults).toEqual([
        expect.objectContaining({ what: 'inserted', event: inserted }),
        expect.objectContaining({ what: 'removed', event: event.id }),
      ]);
    });

    it('exchanges two events, names both', async () => {
      const [a, b] = [await eventAt(0), await eventAt(1)];
      const rename = (from: string, to: string) =>
        service.database.query('UPDATE audit_events SET id = $2 WHERE id = $1', [from, to]);
      await rename(a.id, '01890000-0000-7000-8000-000000000000');
      await rename(b.id, a.id);
      await rename('01890000-0000-7000-8000-000000000000', b.id);
      const { faults } = await verify();
      for (const { id } of [a, b]) expect(faults.map(({ event }) => event)).toContain(id);
    });

    it('removes a block with its events, names the block', async () => {
      await service.database.query(`
        WITH gone AS (DELETE FROM audit_blocks WHERE number = 2 RETURNING event_ids)
        DELETE FROM audit_events WHERE id IN (SELECT unnest(event_ids) FROM gone)`);
      expect((await verify()).faults).toEqual([{ what: 'removed', block: '2 to 2', detail: 'blocks before block 3' }]);
    });

    it('edits a block of many, names the block', async () => {
      const [head] = await service.database.query<Block>('SELECT * FROM audit_blocks ORDER BY number DESC LIMIT 1');
      let previous = head?.mac ?? Buffer.alloc(0);
      for (let number = Number(head?.number) + 1; number <= 60; number += 1) {
        const position = String(Number(head?.last_position) + number); // beyond all events
        const block = { number: String(number), sealed_at: new Date(), last_position: position, previous };
        const empty = { ...block, event_ids: [], event_macs: Buffer.alloc(0) };
        const mac = blockMac(KEY, empty);
        await service.database.query(
          `INSERT INTO audit_blocks (number, sealed_at, last_position, event_ids, event_macs, previous, mac)
           VALUES ($1, $2, $3, '{}', '', $4, $5)`,
          [empty.number, empty.sealed_at, empty.last_position, previous, mac],
        );
        previous = mac;
      }
      expect(await verify()).toMatchObject({ blocks: 60, faults: [] });
      await service.database.query(
        "UPDATE audit_blocks SET sealed_at = sealed_at - interval '1 day' WHERE number = 55",
      );
      expect((await verify()).faults).toEqual([
        { what: 'edited', block: '55', detail: 'its MAC fits no key in AUDIT_KEY' },
      ]);
    });

    it.each([
      ['sealed_at', "sealed_at - interval '1 day'", []],
      ['event_macs', "event_macs || '\\x00'", []],
      ['event_ids', 'event_ids || gen_random_uuid()', [expect.objectContaining({ what: 'removed' })]],
      ['previous', 'sha256(previous)', [{ what: 'edited', block: '1', detail: 'block 2 follows another one' }]],
    ])('edits %s of a block, names the block', async (column, value, others) => {
      await service.database.query(`UPDATE audit_blocks SET ${column} = ${value} WHERE number = 2`);
      const { faults } = await verify();
      const edited = { what: 'edited', block: '2', detail: 'its MAC fits no key in AUDIT_KEY' };
      expect(faults).toEqual(expect.arrayContaining([edited, ...others]));
      expect(faults).toHaveLength(1 + others.length);
    });

    it('seals a block anew without the key, names the block', async () => {
      await service.database.query('UPDATE audit_blocks SET mac = sha256(mac) WHERE number = 2');
      const { faults } = await verify();
      expect(new Set(faults.map(({ what, block }) => `${what} ${block}`))).toEqual(new Set(['edited 2']));
    });

    it('cuts the trail at its end, is found out by a head that was kept elsewhere', async () => {
      const { head } = await verify();
      await service.database.query(`
        WITH gone AS (DELETE FROM audit_blocks WHERE number = (SELECT max(number) FROM audit_blocks) RETURNING event_ids)
        DELETE FROM audit_events WHERE id IN (SELECT unnest(event_ids) FROM gone)`);
      expect((await verify()).faults).toEqual([]);
      expect((await verify({ head })).faults).toEqual([
        { what: 'removed', block: head?.split(':')[0], detail: 'the block that was given as head' },
      ]);
    });

    it('edits two events, names the one after the head alone, and both where the head is another', async () => {
      const { head } = await verify();
      const [second] = await service.database.query<Block>('SELECT * FROM audit_blocks WHERE number = 2');
      const middle = `2:${second?.mac.toString('hex')}`;
      const [old, late] = [await eventAt(0), await eventAt(20)];
      await service.database.query("UPDATE audit_events SET object = 'x' WHERE id IN ($1, $2)", [old.id, late.id]);
      const edited = ({ id }: { id: string }) => expect.objectContaining({ what: 'edited', event: id }) as unknown;
      const { faults, ...verdict } = await verify({ head: middle });
      expect([verdict.head, faults]).toEqual([head, [edited(late)]]);
      expect(verdict.blocks).toBe(Number(head?.split(':')[0]) - 2);
      const other = { what: 'removed', block: '2', detail: 'the block that was given as head' };
      const wrong = `2:${head?.split(':')[1]}`;
      expect((await verify({ head: wrong })).faults).toEqual([other, edited(old), edited(late)]);
      expect(await verify({ head })).toMatchObject({ blocks: 0, events: 0, unsealed: 0, head, faults: [] });
      // What comes later begins where the head ends, so nobody may move that. Not by one: the next block may end there.
      await service.database.query('UPDATE audit_blocks SET last_position = -last_position WHERE number = 2');
      const moved = { what: 'edited', block: '2', detail: 'its MAC fits no key in AUDIT_KEY' };
      expect((await verify({ head: middle })).faults).toContainEqual(moved);
    });
  });
});

describe('npm run audit -- verify', () => {
  it('prints the head of a trail that is whole, and exits with 0', async () => {
    const { code, out } = await audit(['verify']);
    expect(out).toMatch(
      /^\d+ events in \d+ blocks; 0 events are not sealed yet\nThe audit trail is whole\. Head: \d+:[0-9a-f]{64}\n$/,
    );
    expect(code).toBe(0);
    const head = out.trim().split(' ').at(-1) ?? '';
    const after = await audit(['verify', '--after', head]);
    const whole = '0 events are not sealed yet\nThe audit trail is whole. Head: ';
    expect(after).toEqual({
      code: 0,
      out: `0 events in 0 blocks after block ${head.split(':')[0]}; ${whole}${head}\n`,
      err: '',
    });
  });

  it('names what it found, and exits with 3', async () => {
    const { id, position } = await eventAt(3);
    await service.database.query("UPDATE audit_events SET object = 'ord_x' WHERE id = $1", [id]);
    const { code, out, err } = await audit(['verify']);
    expect(out).toContain(`edited: event ${fromUUID(id, 'aud')} (position ${position}, block `);
    expect([code, err]).toEqual([3, 'The audit trail was tampered with: 1 fault(s)\n']);
    const sql = 'UPDATE audit_events SET object = (SELECT object FROM events_before WHERE id = $1) WHERE id = $1';
    await service.database.query(sql, [id]);
  });

  it.each([[[]], [['verify', '--fast']], [['verify', '--after', '12:0a1b']]])(
    'says how it is used when asked for %j',
    async (args) => {
      const { code, err } = await audit(args);
      expect([code, err]).toEqual([1, expect.stringMatching(/^usage: npm run audit -- verify/)]);
    },
  );

  it('does not say that all is well where it has no key to verify with', async () => {
    const production = { NODE_ENV: 'production', ROLES: 'api', PSEUDONYM_KEY: KEY, AUDIT_KEY: undefined };
    expect(await audit(['verify'], production)).toEqual({ code: 1, out: '', err: 'AUDIT_KEY is required\n' });
  });
});

describe('prune_audit_events', () => {
  const prune = async (until: string) => {
    const sql = `SELECT prune_audit_events(${until}, 1000)::int AS gone`;
    return (await service.database.query<{ gone: number }>(sql))[0]?.gone;
  };

  it('takes nothing that was sealed less than 30 days ago, whatever it is asked', async () => {
    expect(await prune("now() + interval '1 year'")).toBe(0);
  });

  it('takes whole blocks, the oldest first, and leaves a chain that is whole', async () => {
    const blocks = await service.database.query<Block>('SELECT * FROM audit_blocks ORDER BY number');
    // As if the first two blocks had been sealed 40 days ago.
    let previous: Buffer = Buffer.alloc(0);
    for (const block of blocks) {
      const age = Number(block.number) <= 2 ? 40 * 86_400_000 : 0;
      const sealed = { ...block, sealed_at: new Date(block.sealed_at.getTime() - age), previous };
      const mac = blockMac(KEY, sealed);
      const sql = 'UPDATE audit_blocks SET sealed_at = $2, previous = $3, mac = $4 WHERE number = $1';
      await service.database.query(sql, [block.number, sealed.sealed_at, previous, mac]);
      previous = mac;
    }
    const { events, faults } = await verify();
    expect(faults).toEqual([]);
    // While the first block has its events, it is not retention that has taken those of the second.
    const second = blocks[1]?.event_ids ?? [];
    await service.database.query('DELETE FROM audit_events WHERE id = ANY($1)', [second]);
    const removed = second.map((event) => expect.objectContaining({ what: 'removed', event }) as unknown);
    expect(await verify({ days: 35 })).toMatchObject({ prunedBlocks: 0, faults: removed });
    const restore = 'INSERT INTO audit_events OVERRIDING SYSTEM VALUE SELECT * FROM events_before WHERE id = ANY($1)';
    await service.database.query(restore, [second]);
    expect(await prune("now() - interval '50 days'")).toBe(0);
    const gone = await prune("now() - interval '35 days'");
    expect(gone).toBe(blocks.slice(0, 2).flatMap(({ event_ids }) => event_ids).length);
    expect(await verify({ days: 35 })).toMatchObject({ prunedBlocks: 2, events: events - Number(gone), faults: [] });
    // Where nothing, or nothing so young, was to be pruned, somebody else has taken it.
    for (const days of [0, 45]) expect((await verify({ days })).faults).toHaveLength(Number(gone));
    const { code, out } = await audit(['verify'], { AUDIT_RETENTION_DAYS: '35' });
    expect(out).toMatch(
      /\nThe events of the first 2 blocks, until \S+Z, were deleted by retention\nThe audit trail is whole\. /,
    );
    expect(code).toBe(0);
  });
});

describe('The audit trail of which somebody takes the end', () => {
  it('counts that as a cut, although blocks of the same numbers follow, and nothing else', async () => {
    const own = await startService({ ROLES: 'api,worker', AUDIT_KEY: KEY });
    const write = async () => {
      const order = anOrder({ customerId: 'cust_down' });
      await api(own.url, await fetchToken('order-orchestrator'))('/v1/orders', { body: order });
    };
    const newest = () => metric(own.url, 'audit_sealed_block');
    const cuts = () => metric(own.url, 'audit_cuts_total');
    const before = await cuts();
    await write();
    await until('a block', async () => (await newest()) === 1);
    await write();
    await until('another block', async () => (await newest()) === 2);
    expect(await cuts()).toBe(before);
    // At once with the next event, so that no round of the sealer finds the trail without it.
    await own.database.query('BEGIN');
    await own.database.query('DELETE FROM audit_blocks WHERE number = 2');
    await own.database.query('DELETE FROM audit_events WHERE position > (SELECT last_position FROM audit_blocks)');
    await own.database.query(
      `INSERT INTO audit_events (id, occurred_at, tenant_id, client_id, action, outcome)
       SELECT gen_random_uuid(), now(), tenant_id, client_id, action, outcome FROM audit_events`,
    );
    await own.database.query('COMMIT');
    await until('the cut', async () => (await cuts()) === before + 1);
    await until('the block that follows', async () => (await newest()) >= 2);
    expect(await cuts()).toBe(before + 1);
    await own.stop();
  });
});

describe('The audit trail while somebody keeps it from being sealed', () => {
  it('says how much is not sealed, and nothing when it cannot look', async () => {
    const own = await startService({ ROLES: 'api,worker', AUDIT_KEY: KEY });
    const unsealed = async () => {
      const { text } = await api(own.url)('/metrics');
      return /^audit_unsealed_events (\d+)$/m.exec(text)?.[1];
    };
    // Any role of the database can do that.
    await until('the lock', async () => {
      const [lock] = await own.database.query<{ held: boolean }>('SELECT pg_try_advisory_lock(4911302857116) AS held');
      return lock?.held;
    });
    await api(own.url, await fetchToken('order-orchestrator'))('/v1/orders', { body: anOrder() });
    await until('its event', async () => Number(await unsealed()) > 0);
    await own.database.query('SELECT pg_advisory_unlock_all()');
    await until('the seal', async () => (await unsealed()) === '0');
    await own.database.query('ALTER TABLE audit_blocks RENAME TO blocks_elsewhere');
    await until('the end of what it said', async () => (await unsealed()) === undefined);
    await own.database.query('ALTER TABLE blocks_elsewhere RENAME TO audit_blocks');
    await until('what it says again', async () => (await unsealed()) === '0');
    await own.stop();
  });
});
