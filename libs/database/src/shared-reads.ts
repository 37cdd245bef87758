import { ServiceError } from '@platform/errors';
import { assertNoOpenTransaction } from './open-transaction';

interface Read<Result> {
  hasBegun: boolean;
  readonly result: Promise<Result>;
}

/**
 * Merges concurrent reads with the same key. Nobody gets data that was read before they asked: a read that has begun is
 * not joined, and callers who arrive meanwhile share the next one.
 */
export class SharedReads<Result> {
  private readonly last = new Map<string, Read<Result>>();

  /**
   * @param key identifies what is read: calls with the same key must read the same
   * @param work runs in the context of the first caller
   * @throws {Error} within a transaction, as {@link Database.run} does
   */
  async read(key: string, work: () => Promise<Result>): Promise<Result> {
    assertNoOpenTransaction(); // one caller's read serves the others too
    const before = this.last.get(key);
    if (before && !before.hasBegun) return before.result;
    const read = async () => {
      try {
        await before?.result.catch((error: unknown) => {
          // The waiting callers would get the same error after waiting as long.
          if (ServiceError.isUnavailable(error)) throw error;
        });
        next.hasBegun = true;
        return await work();
      } finally {
        if (this.last.get(key) === next) this.last.delete(key);
      }
    };
    const next: Read<Result> = { hasBegun: false, result: Promise.resolve().then(read) };
    this.last.set(key, next);
    return next.result;
  }
}
