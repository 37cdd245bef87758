import { ServiceError } from '@platform/errors';
import { refuseWithinTransaction } from './open-transaction';

interface Read<Result> {
  hasBegun: boolean;
  readonly result: Promise<Result>;
}

/**
 * Reads of the same that are asked for together are done once. Nobody gets what was read before it asked: a read that is
 * on its way is not joined, and those who ask meanwhile share the next one.
 */
export class SharedReads<Result> {
  private readonly last = new Map<string, Read<Result>>();

  /**
   * @param key of what is read: for the same key `work` gives the same
   * @param work in the context of the first who asks
   * @throws {Error} within a transaction, as {@link Database.run} does
   */
  async read(key: string, work: () => Promise<Result>): Promise<Result> {
    refuseWithinTransaction(); // the first who asks does so for the others
    const before = this.last.get(key);
    if (before && !before.hasBegun) return before.result;
    const read = async () => {
      try {
        await before?.result.catch((error: unknown) => {
          // Those who wait would hear the same, after as long a wait.
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
