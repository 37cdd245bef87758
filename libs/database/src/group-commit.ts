import { ServiceError } from '@platform/errors';
import { newContext, runInContext } from '@platform/request-context';

/** While so many batches are on their way to the database, what comes waits for the next one. */
const MOST_IN_FLIGHT = 2;
const LARGEST_BATCH = 64;
/** About a tenth of a second of work, and fewer than requests are answered at once: reads go on when writes stand still. */
const LONGEST_QUEUE = 256;

interface Waiting<Item, Result> {
  readonly item: Item;
  readonly resolve: (result: Result) => void;
  readonly reject: (error: unknown) => void;
}

/**
 * Writes what arrives together in one statement, so that many share its round trip and its flush to disk. Nothing waits
 * for company: a batch is what has come while the batches before it were on their way, and a lone item goes at once.
 */
export class GroupCommit<Item, Result> {
  private readonly waiting: Waiting<Item, Result>[] = [];
  private inFlight = 0;

  /**
   * @param write writes all items or none, and gives their results in the same order. It belongs to no one's request: the
   * items may be those of several clients.
   */
  constructor(private readonly write: (items: readonly Item[]) => Promise<readonly Result[]>) {}

  /**
   * @returns the item's result, once it is committed
   * @throws {ServiceError} SERVICE_UNAVAILABLE at once, when too many wait already
   */
  async add(item: Item): Promise<Result> {
    if (this.waiting.length >= LONGEST_QUEUE) throw ServiceError.unavailable(new Error('Too many writes wait already'));
    return new Promise((resolve, reject) => {
      this.waiting.push({ item, resolve, reject });
      this.sendNext();
    });
  }

  private sendNext(): void {
    if (this.inFlight >= MOST_IN_FLIGHT || this.waiting.length === 0) return;
    this.inFlight += 1;
    const batch = this.waiting.splice(0, LARGEST_BATCH);
    void runInContext(newContext(), () => this.send(batch)).finally(() => {
      this.inFlight -= 1;
      this.sendNext();
    });
  }

  private async send(batch: readonly Waiting<Item, Result>[]): Promise<void> {
    try {
      const results = await this.write(batch.map(({ item }) => item));
      for (const [index, { resolve }] of batch.entries()) resolve(results[index]!);
    } catch (error) {
      const isAboutAll = batch.length === 1 || error instanceof ServiceError; // the database is away
      // Else it is about one of them, or about what that one met: nobody is to pay for a neighbour.
      for (const one of batch) await (isAboutAll ? one.reject(error) : this.send([one]));
    }
  }
}
