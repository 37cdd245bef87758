import { setTimeout as delay } from 'node:timers/promises';
import { Database } from '@platform/database';
import { startService, type TestService } from '../support/service';

describe('A connection to PostgreSQL', () => {
  let service: TestService;
  let database: Database;

  beforeAll(async () => {
    service = await startService({ ROLES: 'api', DATABASE_POOL_SIZE: '1' });
    database = service.app.get(Database, { strict: false });
  });
  afterAll(() => service.stop());

  const query = (text: string) => database.run((manager) => manager.query<{ pid: number }[]>(text));
  const pid = async () => (await query('SELECT pg_backend_pid() AS pid'))[0]?.pid;
  const write = "INSERT INTO inbox (consumer, event_id) VALUES ('test', gen_random_uuid()::text)";

  it.each<[string, () => Promise<unknown>]>([
    ['a statement', () => query(write)],
    ['a prepared statement', () => database.prepared('write', write, [])],
    ['a transaction', () => database.inTransaction((tx) => tx.query(write))],
  ])('is given up when %s hears that the server is a primary no longer', async (_, work) => {
    const before = await pid();
    await query('SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY');
    await expect(work()).rejects.toMatchObject({ code: 'SERVICE_UNAVAILABLE' });
    expect(await pid()).not.toBe(before);
    await work();
  });

  it('is given up when no answer comes in time, and not given to whoever waits for it', async () => {
    const before = await pid();
    await query('SET statement_timeout = 0');
    const unanswered = query('SELECT pg_sleep(5)');
    unanswered.catch(() => undefined);
    await delay(900);
    expect(await pid()).not.toBe(before);
    await expect(unanswered).rejects.toMatchObject({ code: 'SERVICE_UNAVAILABLE' });
  });

  it.each<[string, () => Promise<unknown>]>([
    ['a statement', () => query('SELECT pg_sleep(1.1)')],
    ['a prepared statement', () => database.prepared('sleep', 'SELECT pg_sleep(1.1)', [])],
  ])('is kept when %s takes longer than it may', async (_, work) => {
    const before = await pid();
    await expect(work()).rejects.toMatchObject({ code: 'SERVICE_UNAVAILABLE' });
    expect(await pid()).toBe(before);
  });
});
