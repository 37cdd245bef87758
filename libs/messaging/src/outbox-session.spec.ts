import { OutboxSession } from './outbox-session';

const MAX_ROWS = 500;

describe('OutboxSession.read', () => {
  /** @param sizes of the events that wait, in bytes */
  function sessionWith(sizes: readonly number[]) {
    const waiting = sizes.map((size, n) => ({ position: String(n), payload: 'x'.repeat(size) }));
    const limits: number[] = [];
    const query = async (_: string, [, limit]: [number[], number]) => {
      limits.push(limit);
      return { rows: waiting.slice(0, limit) };
    };
    const session = Reflect.construct(OutboxSession, [{ query }, { held: [0] }]) as OutboxSession;
    return { session, limits };
  }

  const readFrom = async (session: OutboxSession) => (await session.read()).map(({ position }) => position);

  it('takes no more than fits into one request to Kafka, and then asks for few', async () => {
    const { session, limits } = sessionWith([300_000, 300_000, 300_000, 300_000, 300_000]);
    expect(await readFrom(session)).toEqual(['0', '1']);
    expect(session.hasMore).toBe(true);
    expect(await readFrom(session)).toEqual(['0', '1']);
    expect(limits).toEqual([MAX_ROWS, 4]);
  });

  it('takes an event by itself that is larger than that', async () => {
    const { session } = sessionWith([900_000, 1]);
    expect(await readFrom(session)).toEqual(['0']);
    expect(session.hasMore).toBe(true);
  });

  it('takes all where all fit', async () => {
    const { session } = sessionWith([300_000, 300_000]);
    expect(await readFrom(session)).toEqual(['0', '1']);
    expect(session.hasMore).toBe(false);
  });
});

describe('OutboxSession.measure', () => {
  it.each([
    ['57014', undefined],
    ['57P01', 'admin_shutdown'],
  ])('knows no backlog that takes too long to count, and fails with the database: %s', async (code, message) => {
    const statements: string[] = [];
    const query = async (sql: string) => {
      statements.push(sql);
      if (sql.startsWith('SELECT count')) throw Object.assign(new Error(message), { code });
      return { rows: [{ oldestAge: 7, parked: 8 }] };
    };
    const session = Reflect.construct(OutboxSession, [{ query }, {}]) as OutboxSession;
    const measured = session.measure();
    if (message) await expect(measured).rejects.toThrow(message);
    else expect(await measured).toEqual({ backlog: undefined, oldestAge: 7, parked: 8 });
    expect(statements.at(-1)).toBe('ROLLBACK');
  });
});
