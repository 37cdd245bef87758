import { setTimeout as delay } from 'node:timers/promises';
import { TypeORMError } from 'typeorm';
import { Batcher } from './batcher';
import { Database, type Transaction } from './database';
import { SharedReads } from './shared-reads';

describe('Database within a transaction', () => {
  const manager = { transaction: (work: (tx: string) => Promise<unknown>) => work('tx') };
  const database = new Database({ manager, driver: {} } as never);
  const within = 'Within a transaction only its own `tx` reaches the database';

  it('takes no second connection, for which all of the pool could wait', async () => {
    await expect(database.inTransaction(() => database.run(async () => 1))).rejects.toThrow(within);
    await expect(database.inTransaction(() => database.inTransaction(async () => 1))).rejects.toThrow(within);
    await expect(database.inTransaction(() => database.prepared('a', 'SELECT', []))).rejects.toThrow(within);
  });

  it('alone is taken for one, of the compiler', () => {
    const work = async (tx: Transaction) => void tx;
    // @ts-expect-error each statement of `run` is its own
    const mistake = () => database.run(work);
    expect(mistake).toBeDefined();
  });

  it('joins no batch and no shared read, whose others would be refused with it', async () => {
    const batcher = new Batcher(async (items: readonly number[]) => items);
    const reads = new SharedReads<number>();
    const innocent = () => Promise.all([batcher.add(1), reads.read('a', async () => 2)]);
    const misuse = database.inTransaction(() => Promise.allSettled([batcher.add(3), reads.read('a', async () => 4)]));
    const others = innocent();
    expect(await misuse).toMatchObject([{ reason: { message: within } }, { reason: { message: within } }]);
    expect(await others).toEqual([1, 2]);
  });

  it('knows what the transaction left behind from what is done in it', async () => {
    let later: Promise<number> | undefined;
    await database.inTransaction(async () => {
      later = delay(20).then(() => database.run(async () => 2));
    });
    await expect(later).resolves.toBe(2);
    await expect(database.run(async () => 3)).resolves.toBe(3);
  });

  it('is over when it failed', async () => {
    let later: Promise<number> | undefined;
    const failing = database.inTransaction(async () => {
      later = delay(20).then(() => database.run(async () => 2));
      throw new Error('failed');
    });
    await expect(failing).rejects.toThrow('failed');
    await expect(later).resolves.toBe(2);
  });
});

describe('Database.inTransaction', () => {
  const deadlock = () => Object.assign(new Error('deadlock detected'), { code: '40P01' });
  const database = (faults: Error[]) => {
    const transaction = async (work: (tx: string) => Promise<unknown>) => {
      const result = await work('tx');
      const fault = faults.shift();
      if (fault) throw fault;
      return result;
    };
    return new Database({ manager: { transaction } } as never);
  };

  it('runs the work again after a deadlock', async () => {
    let runs = 0;
    await expect(database([deadlock()]).inTransaction(async () => (runs += 1))).resolves.toBe(2);
  });

  it('gives up after five runs, and at once after another fault', async () => {
    let runs = 0;
    const work = async () => (runs += 1);
    await expect(database(Array.from({ length: 5 }, deadlock)).inTransaction(work)).rejects.toMatchObject({
      code: 'SERVICE_UNAVAILABLE',
      cause: deadlock(),
    });
    expect(runs).toBe(5);
    await expect(database([new Error('its own')]).inTransaction(work)).rejects.toThrow('its own');
    expect(runs).toBe(6);
  });
});

describe('Database that the process has closed, as it ends', () => {
  const manager = { transaction: () => Promise.reject(new TypeORMError('Driver not Connected')) };
  const database = new Database({ manager, driver: { master: undefined } } as never);

  it('is away, and nobody else is at fault', async () => {
    const away = { code: 'SERVICE_UNAVAILABLE' };
    await expect(database.inTransaction(async () => 1)).rejects.toMatchObject(away);
    await expect(database.prepared('a', 'SELECT', [])).rejects.toMatchObject(away);
  });
});

describe('Database.prepared', () => {
  it('leaves the driver neither the values nor the rows, which its query would keep for long', async () => {
    const result = { rows: [{ id: 1 }, { id: 2 }] };
    const query = jest.fn(async ({ values }: { values: unknown[] }) => {
      expect(values).toEqual(['a']);
      return result;
    });
    const pool = { connect: async () => ({ query, release: () => undefined }) };
    const values = ['a'];
    const rows = await new Database({ driver: { master: pool } } as never).prepared('a', 'SELECT $1', values);
    expect(rows).toEqual([{ id: 1 }, { id: 2 }]);
    expect([query.mock.calls[0]![0].values, result.rows, values]).toEqual([[], [], ['a']]);
  });

  it('gives its connection back, also after a statement that failed', async () => {
    const query = jest.fn().mockResolvedValueOnce({ rows: [] }).mockRejectedValueOnce(new Error('failed'));
    const release = jest.fn();
    const database = new Database({ driver: { master: { connect: async () => ({ query, release }) } } } as never);
    await database.prepared('a', 'SELECT', []);
    expect(release).toHaveBeenCalledTimes(1);
    await expect(database.prepared('a', 'SELECT', [])).rejects.toThrow('failed');
    expect(release).toHaveBeenCalledTimes(2);
  });
});
