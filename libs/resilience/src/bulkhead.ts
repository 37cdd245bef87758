/** Limits how many calls are under way at once. Callers beyond the limit wait for a place, in order of arrival. */
export class Bulkhead {
  private readonly waiting = new Set<(hasPlace: boolean) => void>();

  /** @param free how many places there are */
  constructor(private free: number) {}

  /** @returns whether the caller got a place, which it must {@link leave} */
  tryEnter(): boolean {
    if (this.free === 0) return false;
    this.free -= 1;
    return true;
  }

  /**
   * Waits until a place is left. To be called when there was none.
   * @returns as {@link tryEnter}; false after `maxWaitMs`, when `signal` aborts, and when the bulkhead closes
   */
  async waitToEnter(maxWaitMs: number, signal?: AbortSignal): Promise<boolean> {
    if (maxWaitMs <= 0 || signal?.aborted) return false;
    const { promise, resolve } = Promise.withResolvers<boolean>();
    const settle = (hasPlace: boolean) => {
      this.waiting.delete(settle);
      resolve(hasPlace);
    };
    const giveUp = () => settle(false);
    this.waiting.add(settle);
    const timer = setTimeout(giveUp, maxWaitMs);
    signal?.addEventListener('abort', giveUp);
    return promise.finally(() => {
      clearTimeout(timer);
      signal?.removeEventListener('abort', giveUp);
    });
  }

  /** Gives the place to the caller that has waited longest. */
  leave(): void {
    const [next] = this.waiting;
    if (next) next(true);
    else this.free += 1;
  }

  /** Sends all waiting callers away. */
  close(): void {
    for (const settle of this.waiting) settle(false);
  }
}
