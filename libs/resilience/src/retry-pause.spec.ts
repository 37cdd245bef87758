import { parseRetryAfter, retryPauseMs } from './retry-pause';

const settings = { backoffMs: 100, backoffMaxMs: 1_000 };

describe('retryPauseMs', () => {
  afterEach(() => jest.restoreAllMocks());

  it.each([
    [1, 100],
    [2, 200],
    [3, 400],
    [4, 800],
    [5, 1_000],
    [60, 1_000],
  ])('lies after %i failures anywhere from 0 to %i ms', (failures, bound) => {
    const random = jest.spyOn(Math, 'random');
    for (const share of [0, 0.25, 0.999]) {
      random.mockReturnValueOnce(share);
      expect(retryPauseMs(failures, settings)).toBeCloseTo(share * bound);
    }
  });

  it('is another one each time', () => {
    expect(new Set(Array.from({ length: 20 }, () => retryPauseMs(1, settings))).size).toBeGreaterThan(15);
  });

  it('comes on top of what the dependency asked for', () => {
    jest.spyOn(Math, 'random').mockReturnValueOnce(0).mockReturnValueOnce(0.5);
    expect(retryPauseMs(1, settings, 3_000)).toBe(3_000);
    expect(retryPauseMs(1, settings, 3_000)).toBe(3_050);
  });
});

describe('parseRetryAfter', () => {
  const now = Date.parse('Wed, 21 Oct 2026 07:28:00 GMT');

  beforeEach(() => jest.spyOn(Date, 'now').mockReturnValue(now));
  afterEach(() => jest.restoreAllMocks());

  it.each<[string | undefined, number | undefined]>([
    ['0', 0],
    ['120', 120_000],
    ['Wed, 21 Oct 2026 07:28:30 GMT', 30_000],
    ['Wed, 21 Oct 2026 07:27:00 GMT', 0],
    ['soon', undefined],
    ['', undefined],
    [undefined, undefined],
  ])('reads %p as %p ms', (header, expected) => {
    expect(parseRetryAfter(header)).toBe(expected);
  });
});
