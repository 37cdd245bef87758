import { firstUuidOf, idsAfter, idsFrom, momentOf, newTimeId, timestampOf, toTimestamp } from './time-ids';

const RFC_MOMENT = new Date('2022-02-22T19:22:22.000Z');

const RFC_UUID = '017f22e2-79b0-7cc3-98c4-dc0c0c07398f';

/** The smallest and the largest UUIDv7 that a moment can have. */
function idsOf(milliseconds: number): [string, string] {
  const hex = milliseconds.toString(16).padStart(12, '0');
  const time = `${hex.slice(0, 8)}-${hex.slice(8)}`;
  return [`${time}-7000-8000-000000000000`, `${time}-7fff-bfff-ffffffffffff`];
}

describe('newTimeId', () => {
  afterEach(() => jest.useRealTimers());

  it('returns UUIDv7s of now, each later than the one before and all different', () => {
    const before = Date.now();
    const ids = Array.from({ length: 20_000 }, newTimeId);
    expect(ids).toEqual([...new Set(ids)].sort());
    for (const id of ids) expect(id).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
    expect(momentOf(ids[0]!).getTime()).toBeGreaterThanOrEqual(before);
    expect(momentOf(ids[0]!).getTime()).toBeLessThanOrEqual(Date.now());
  });

  it.each([
    ['more than a millisecond can count', 0],
    ['a clock that is set back', -5_000],
  ])('goes on through %s', (_, step) => {
    jest.useFakeTimers({ now: Date.now() + 60_000 });
    const first = Array.from({ length: 5_000 }, newTimeId);
    jest.setSystemTime(Date.now() + step);
    const ids = [...first, newTimeId()];
    expect(ids).toEqual([...new Set(ids)].sort());
  });

  it('follows a clock that was an hour fast', () => {
    jest.useFakeTimers({ now: Date.now() + 3_600_000 });
    newTimeId();
    jest.useRealTimers();
    const before = Date.now();
    expect(Math.abs(momentOf(newTimeId()).getTime() - before)).toBeLessThan(60_000);
  });
});

describe('firstUuidOf', () => {
  it('returns a UUID', () => {
    expect(firstUuidOf(RFC_MOMENT)).toBe('017f22e2-79b0-0000-0000-000000000000');
  });

  it.each([
    '1970-01-01T00:00:00.001Z',
    '2004-11-03T19:53:47.776Z',
    '2022-02-22T19:22:22.000Z',
    '9999-12-31T23:59:59.999Z',
  ])('stands between the ids of %s and those of the millisecond before', (time) => {
    const moment = new Date(time);
    const first = firstUuidOf(moment);
    expect(momentOf(first)).toEqual(moment);
    expect(first <= idsOf(moment.getTime())[0]).toBe(true);
    expect(first > idsOf(moment.getTime() - 1)[1]).toBe(true);
  });

  it('stands at or below an id made at that moment, and below it one millisecond on', () => {
    const uuid = newTimeId();
    const createdAt = momentOf(uuid);
    expect(firstUuidOf(createdAt) <= uuid).toBe(true);
    expect(firstUuidOf(new Date(createdAt.getTime() + 1)) > uuid).toBe(true);
  });

  it.each([
    '1970-01-01T00:00:00.000Z',
    '1969-12-31T23:59:59.999Z',
    '1900-01-01T00:00:00.000Z',
    '0000-01-01T00:00:00.000Z',
  ])('stands below every id for %s', (time) => {
    const first = firstUuidOf(new Date(time));
    expect(first).toBe('00000000-0000-0000-0000-000000000000');
    expect(first < idsOf(0)[0]).toBe(true);
  });
});

describe('idsFrom and idsAfter', () => {
  const at = (time: string) => firstUuidOf(new Date(time));

  it.each([
    ['a millisecond', '2022-02-22T19:22:22.123Z', '2022-02-22T19:22:22.123Z', '2022-02-22T19:22:22.124Z'],
    ['a whole second', '2022-02-22T19:22:22Z', '2022-02-22T19:22:22.000Z', '2022-02-22T19:22:22.001Z'],
    [
      'a microsecond between two',
      '2022-02-22T19:22:22.123001Z',
      '2022-02-22T19:22:22.124Z',
      '2022-02-22T19:22:22.124Z',
    ],
    [
      'zeros beyond milliseconds',
      '2022-02-22T19:22:22.123000Z',
      '2022-02-22T19:22:22.123Z',
      '2022-02-22T19:22:22.124Z',
    ],
    ['another zone', '2022-02-22T14:22:22.123-05:00', '2022-02-22T19:22:22.123Z', '2022-02-22T19:22:22.124Z'],
  ])('begin where they should for %s', (_, timestamp, from, after) => {
    expect(idsFrom(timestamp)).toBe(at(from));
    expect(idsAfter(timestamp)).toBe(at(after));
  });
});

describe('momentOf', () => {
  it.each([
    ['the example of RFC 9562', RFC_UUID, RFC_MOMENT],
    ['the epoch', idsOf(0)[1], new Date(0)],
    ['the last millisecond of the year 9999', idsOf(253_402_300_799_999)[1], new Date('9999-12-31T23:59:59.999Z')],
    ['upper case', RFC_UUID.toUpperCase(), RFC_MOMENT],
  ])('returns the moment of %s', (_, uuid, moment) => {
    expect(momentOf(uuid)).toEqual(moment);
  });
});

describe('toTimestamp', () => {
  it('is RFC 3339 with milliseconds, whatever moment was asked before', () => {
    const moments = [0, 1, 1, 0, 951_782_400_000, 1_700_000_000_123, 1_700_000_000_123].map((time) => new Date(time));
    expect(moments.map(toTimestamp)).toEqual(moments.map((moment) => moment.toISOString()));
  });

  it('has no text for what is no moment', () => {
    expect(() => toTimestamp(new Date(Number.NaN))).toThrow(RangeError);
    expect(() => toTimestamp(new Date(Number.NaN))).toThrow(RangeError);
  });
});

describe('timestampOf', () => {
  it.each([
    ['2026-11-24 15:44:07.293+00', '2026-11-24T15:44:07.293Z'],
    ['2026-11-24 15:44:07.2+00', '2026-11-24T15:44:07.200Z'],
    ['2026-11-24 15:44:07+00', '2026-11-24T15:44:07.000Z'],
    ['2026-11-24 15:44:07.293999+00', '2026-11-24T15:44:07.293Z'],
    ['2026-11-24 15:44:07.29+05:30', '2026-11-24T10:14:07.290Z'],
    ['2026-11-24 01:44:07-08', '2026-11-24T09:44:07.000Z'],
  ])('takes %s for %s', (text, timestamp) => {
    expect(timestampOf(text)).toBe(timestamp);
  });
});
