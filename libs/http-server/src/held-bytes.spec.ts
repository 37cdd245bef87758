import { Logger } from '@nestjs/common';
import { HeldBytes } from './held-bytes';

const MIB = 1024 * 1024;

describe('HeldBytes', () => {
  beforeEach(() => jest.useFakeTimers());
  afterEach(() => {
    jest.useRealTimers();
    jest.restoreAllMocks();
  });

  const aHolder = () => ({ destroy: jest.fn() });

  it('counts a holder once, however often it holds something', () => {
    const held = new HeldBytes();
    for (let n = 1; n <= 100; n += 1) {
      const holder = aHolder();
      held.hold(holder, MIB);
      held.hold(holder, MIB);
      held.release(holder);
    }
    const [first, last] = [aHolder(), aHolder()];
    held.hold(first, MIB);
    jest.advanceTimersByTime(5_000);
    held.hold(last, MIB);
    expect([first.destroy, last.destroy].flatMap(({ mock }) => mock.calls)).toEqual([]);
  });

  it('says once in a second how many were cut off', () => {
    const warn = jest.spyOn(Logger.prototype, 'warn').mockImplementation();
    const held = new HeldBytes();
    const holders = Array.from({ length: 70 }, aHolder);
    for (const holder of holders) held.hold(holder, MIB);
    jest.advanceTimersByTime(2_000);
    held.hold(aHolder(), MIB);
    expect(holders.filter(({ destroy }) => destroy.mock.calls.length === 1)).toEqual(holders.slice(0, 7));
    jest.advanceTimersByTime(1_000);
    held.hold(aHolder(), 2 * MIB);
    jest.advanceTimersByTime(1_000);
    expect(warn.mock.calls.map(([facts]) => facts as unknown)).toEqual([{ cutOff: 7 }, { cutOff: 2 }]);
  });
});
