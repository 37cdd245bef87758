import { setTimeout as delay } from 'node:timers/promises';
import { Client } from 'pg';
import { toOrderId } from '../../apps/order-service/src/orders/order-id';
import { isAlive } from '../../apps/sandbox/src/program';
import { type ServiceProcess, spawnService } from '../support/child';
import { anOrder, type Api, api, apiOnce, fetchToken } from '../support/client';
import { OwnPostgres } from '../support/own-postgres';
import { until } from '../support/until';

const CLIENTS = 32;
/** What is answered before each kill, so that it comes in the middle of work. */
const ANSWERS_BETWEEN_KILLS = 200;

/** At each commit, so that whatever the service has set for its session or its transaction is seen. */
const WATCH_COMMITS = `
  CREATE TABLE commits_seen (synchronous_commit text PRIMARY KEY);
  CREATE FUNCTION see_commit() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
    BEGIN
      IF NOT EXISTS (SELECT FROM public.commits_seen
                     WHERE synchronous_commit = current_setting('synchronous_commit')) THEN
        INSERT INTO public.commits_seen VALUES (current_setting('synchronous_commit')) ON CONFLICT DO NOTHING;
      END IF;
      RETURN NULL;
    END
  $$;
  CREATE CONSTRAINT TRIGGER see_commit AFTER INSERT ON idempotency_keys
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION see_commit()`;

interface Accepted {
  readonly request: ReturnType<typeof anOrder>;
  readonly text: string;
  readonly orderId: string;
}

/** On a PostgreSQL that waits for the disk, as production's does. */
describe('With processes killed under load', () => {
  let token: string;
  let postgres: OwnPostgres;
  let service: ServiceProcess | undefined;
  /** The way to the service; while it is being started there is nobody to ask. */
  let up: Promise<Api>;

  const startService = async () => {
    service = await spawnService({
      DATABASE_URL: postgres.url,
      ROLES: 'api',
      LOG_LEVEL: 'error',
    });
    return apiOnce(service.url, token);
  };

  beforeAll(async () => {
    postgres = await OwnPostgres.start(['fsync=on', 'synchronous_commit=on']);
    await query(WATCH_COMMITS);
    token = await fetchToken('order-orchestrator');
    up = startService();
    await up;
  });

  afterAll(async () => {
    await service?.end('SIGKILL');
    await postgres.stop();
  });

  async function query<T extends object>(text: string): Promise<T[]> {
    const client = new Client(postgres.superuserUrl());
    await client.connect();
    try {
      return (await client.query<T>(text)).rows;
    } finally {
      await client.end();
    }
  }

  const accepted: Accepted[] = [];
  /** Requests that have no answer yet. */
  const underWay = new Set<object>();
  /** Requests that were under way at the last kill, less those that are known to have got no 201. */
  const hit = new Set<object>();
  let unanswered = 0;
  /** Retries that found that the order had been kept, although its answer got lost. */
  let keptUnanswered = 0;

  /** Sends an order with one key until it is accepted, as clients are told to. */
  async function place(request: Accepted['request']): Promise<void> {
    for (let retried = false; ; retried = true) {
      const call = await up;
      underWay.add(request);
      const answer = await call('/v1/orders', { body: request }).catch(() => undefined);
      underWay.delete(request);
      if (answer?.status === 201) {
        if (retried && answer.headers.has('idempotent-replayed')) keptUnanswered += 1;
        accepted.push({ request, text: answer.text, orderId: answer.body.orderId as string });
        return;
      }
      if (answer && answer.status !== 503) {
        throw new Error(`${answer.status} ${answer.text}; it logged last: ${JSON.stringify(service?.lines.slice(-3))}`);
      }
      if (service && service.process.exitCode !== null) throw new Error('The service ended by itself');
      if (hit.delete(request)) unanswered += 1;
      await delay(50);
    }
  }

  const kills = {
    async service() {
      await note();
      await service?.end('SIGKILL');
      up = startService();
      await up;
    },
    /** Every process of it, as in a crash of the machine of which the operating system wrote all that it had. */
    async PostgreSQL() {
      const processes = await listPostgres();
      await note();
      await crash(processes);
      await postgres.comeBack();
    },
    async both() {
      const processes = await listPostgres();
      await note();
      await Promise.all([service?.end('SIGKILL'), crash(processes)]);
      await postgres.comeBack();
      up = startService();
      await up;
    },
  };

  /** Notes whom the kill that follows hits. */
  async function note(): Promise<void> {
    await until('work', () => underWay.size >= CLIENTS / 2);
    for (const request of underWay) hit.add(request);
  }

  /** Stopped, it starts no more of them, while those that there are go on. */
  async function listPostgres(): Promise<number[]> {
    const processes = postgres.suspend();
    await delay(50); // to list them took time, in which answers came that are to be read before anybody is noted
    return processes;
  }

  async function crash(processes: readonly number[]): Promise<void> {
    for (const pid of processes) process.kill(pid, 'SIGKILL');
    await until('the end of PostgreSQL', () => !processes.some(isAlive));
  }

  it('has accepted each order once and kept it', async () => {
    const victims = ['service', 'PostgreSQL', 'service', 'PostgreSQL', 'both', 'PostgreSQL'] as const;
    const hits: number[] = [];
    let done = false;
    let placed = 0;
    const clients = Promise.all(
      Array.from({ length: CLIENTS }, async () => {
        while (!done) await place(anOrder({ customerId: `cust_${(placed += 1)}` }));
      }),
    );
    const killer = (async () => {
      for (const victim of victims) {
        const before = accepted.length;
        await until('work', () => done || accepted.length >= before + ANSWERS_BETWEEN_KILLS);
        if (done) return;
        unanswered = 0;
        hit.clear();
        await kills[victim]();
        await until('answers', () => ![...hit].some((request) => underWay.has(request)));
        hits.push(unanswered);
      }
    })();
    try {
      await Promise.race([clients, killer]); // a wrong answer, or a service that ends, ends the test at once
    } finally {
      done = true;
    }
    await clients;

    console.log(
      `${accepted.length} orders; requests that a kill left without a 201: ` +
        victims.map((victim, place) => `${victim} ${hits[place]}`).join(', ') +
        `; orders that a retry found kept: ${keptUnanswered}`,
    );
    // A kill may come between two batches; most do not.
    expect(hits.filter((count) => count > 0).length).toBeGreaterThan(victims.length / 2);

    const answered = accepted.map(({ request, orderId }) => `${request.customerId} ${orderId}`).sort();
    expect(answered).toHaveLength(placed);
    const orders = await query<{ id: string; customer: string }>('SELECT id, customer_id AS customer FROM orders');
    expect(orders.map(({ id, customer }) => `${customer} ${toOrderId(id)}`).sort()).toEqual(answered);
    const events = await query<{ id: string; customer: string }>(
      "SELECT aggregateid AS id, payload ->> 'customerId' AS customer FROM outbox",
    );
    expect(events.map(({ id, customer }) => `${customer} ${id}`).sort()).toEqual(answered);
    const audited = await query<{ id: string }>(
      "SELECT object AS id FROM audit_events WHERE action = 'order.create' AND outcome = 'succeeded'",
    );
    expect(audited.map(({ id }) => id).sort()).toEqual(accepted.map(({ orderId }) => orderId).sort());
    const keys = await query<{ text: string }>('SELECT response_body AS text FROM idempotency_keys');
    expect(keys.map(({ text }) => text).sort()).toEqual(accepted.map(({ text }) => text).sort());
  });

  it('replays the first answer to the key of each', async () => {
    await up;
    const call = api(service!.url, token);
    const left = [...accepted];
    await Promise.all(
      Array.from({ length: CLIENTS }, async () => {
        for (let next = left.pop(); next; next = left.pop()) {
          const { request, text } = next;
          const answer = await call('/v1/orders', { body: request });
          const replayed = answer.headers.get('idempotent-replayed');
          expect({ status: answer.status, text: answer.text, replayed }).toEqual({
            status: 201,
            text,
            replayed: 'true',
          });
        }
      }),
    );
    expect(await query('SELECT FROM orders')).toHaveLength(accepted.length);
  });

  it('waits for the disk at each commit', async () => {
    expect(await query('SELECT synchronous_commit FROM commits_seen')).toEqual([{ synchronous_commit: 'on' }]);
  });
});
