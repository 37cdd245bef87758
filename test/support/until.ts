import { setTimeout as delay } from 'node:timers/promises';

/**
 * How long a machine may take for what is not measured. Beside other tests and their brokers a start of the service gets
 * little of the processor, and for a worker that died others wait some 30 s.
 */
const PATIENCE_MS = 60_000;

/** Asks again and again until the answer is neither undefined nor false. */
export async function until<T>(
  what: string,
  ask: () => T | Promise<T>,
  timeoutMs = PATIENCE_MS,
): Promise<Exclude<T, undefined | false>> {
  const deadline = Date.now() + timeoutMs;
  for (;;) {
    const answer = await ask();
    if (answer !== undefined && answer !== false) return answer as Exclude<T, undefined | false>;
    if (Date.now() > deadline) throw new Error(`${what} did not happen within ${timeoutMs} ms`);
    await delay(25);
  }
}

/**
 * Measures at most three times: a busy machine may spoil a measurement, and what is too slow is so each time.
 * @param measure throws what else is wrong, which no other round makes good
 * @returns the first that is below the limit, or else the last
 */
export async function firstBelow(limit: number, measure: () => Promise<number>): Promise<number> {
  for (let left = 2; ; left -= 1) {
    const measured = await measure();
    if (measured < limit || left === 0) return measured;
  }
}

/** A busy machine may spoil a round, and what is wrong spoils each. @throws what the last of three threw */
export async function inSomeRound(round: () => Promise<void>): Promise<void> {
  for (let left = 2; ; left -= 1) {
    try {
      return await round();
    } catch (error) {
      if (left === 0) throw error;
    }
  }
}
