import { Logger } from '@nestjs/common';
import { newTimeId } from '@platform/ids';
import type { AuditRow } from './audit-row';
import { RefusalLog } from './refusal-log';

function aRefusal(clientId: string | null, statusCode: number): AuditRow {
  const nothing = { tenant_id: null, object: null, error_code: null, request_id: null, address: null };
  return {
    ...{ ...nothing, certificate: null, id: newTimeId(), occurred_at: new Date(), client_id: clientId },
    ...{ action: 'order.read', outcome: 'refused', status_code: statusCode },
  };
}

const refusals = (count: number, clientId: string | null, statusCode: number) =>
  Array.from({ length: count }, () => aRefusal(clientId, statusCode));

describe('RefusalLog', () => {
  let written: AuditRow[];
  let append: jest.Mock<Promise<void>, [readonly AuditRow[]]>;
  let counted: jest.Mock;
  let log: RefusalLog;

  beforeEach(() => {
    jest.useFakeTimers();
    written = [];
    append = jest.fn(async (rows) => void written.push(...rows));
    counted = jest.fn();
    log = new RefusalLog({ append } as never, { inc: counted } as never);
  });
  afterEach(() => {
    jest.useRealTimers();
    jest.restoreAllMocks();
  });

  const add = (rows: readonly AuditRow[]) => {
    for (const row of rows) log.add(row);
  };
  /** @returns what has come of those that were added, and forgets it */
  const outcome = async () => {
    await jest.advanceTimersByTimeAsync(1_000);
    const [rows, calls] = [written.splice(0), counted.mock.calls.splice(0)];
    const kept = rows.filter(({ action }) => action !== 'audit.refusals_dropped');
    const dropped = rows.filter((row) => !kept.includes(row)).map(({ object }) => Number(object));
    return { kept: kept.length, dropped, counted: calls.length };
  };
  /** Has the trail wait, once, with rows of that action until it is told to go on. */
  const holdTrail = (held: string) => {
    const { promise, resolve } = Promise.withResolvers<void>();
    let isHeld = false;
    append.mockImplementation(async (rows) => {
      if (!isHeld && rows[0]?.action === held) {
        isHeld = true;
        await promise;
      }
      written.push(...rows);
    });
    return resolve;
  };

  it.each<[string, string | null, number]>([
    ['of nobody', null, 401],
    ['beyond the rate limit of a client', 'orchestrator', 429],
  ])(
    'keeps 600 refusals %s at once and ten more a second, and says how many others there were',
    async (_, ...whose) => {
      add(refusals(700, ...whose));
      expect(await outcome()).toEqual({ kept: 600, dropped: [100], counted: 100 });
      await jest.advanceTimersByTimeAsync(4_000);
      add(refusals(60, ...whose));
      expect(await outcome()).toEqual({ kept: 50, dropped: [10], counted: 10 });
    },
  );

  it('keeps all that a client is refused within its rate limit', async () => {
    add(refusals(1_500, 'orchestrator', 403));
    expect(await outcome()).toEqual({ kept: 1_500, dropped: [], counted: 0 });
  });

  it('says later of those that it dropped while it said how many there were', async () => {
    add(refusals(600, null, 401));
    await outcome(); // takes the second in which ten more may come
    add(refusals(40, null, 401));
    const release = holdTrail('audit.refusals_dropped');
    await jest.advanceTimersByTimeAsync(300);
    add(refusals(7, null, 401)); // three of them may come
    release();
    expect(await outcome()).toEqual({ kept: 13, dropped: [30, 4], counted: 34 });
  });

  it('writes all that waits when the process ends', async () => {
    const rows = refusals(1_200, 'orchestrator', 403);
    add(rows);
    await log.onApplicationShutdown();
    expect(written).toEqual(rows);
  });

  it.each([
    ['just went away', 0],
    ['has been away for a while', 5_000],
  ])('says how many it could not write when the process ends while the database %s', async (_, ms) => {
    jest.spyOn(Logger.prototype, 'warn').mockImplementation();
    const error = jest.spyOn(Logger.prototype, 'error').mockImplementation();
    append.mockRejectedValue(new Error('away'));
    add(refusals(12, 'orchestrator', 403));
    add(refusals(607, null, 401));
    await jest.advanceTimersByTimeAsync(ms);
    await log.onApplicationShutdown();
    expect(error.mock.calls).toEqual([
      [{ lost: 619 }, expect.stringContaining('could not be written to the audit trail')],
    ]);
  });

  it('is silent when it could write all of them', async () => {
    const error = jest.spyOn(Logger.prototype, 'error').mockImplementation();
    add(refusals(700, null, 401));
    await log.onApplicationShutdown();
    expect(written).toHaveLength(601);
    expect(error).not.toHaveBeenCalled();
  });

  it('writes what is on its way when the process ends no second time', async () => {
    const rows = refusals(10, 'orchestrator', 403);
    add(rows.slice(0, 5));
    const release = holdTrail('order.read');
    await jest.advanceTimersByTimeAsync(250);
    add(rows.slice(5));
    const end = log.onApplicationShutdown();
    await jest.advanceTimersByTimeAsync(0);
    release();
    await end;
    expect(written).toEqual(rows);
  });
});
