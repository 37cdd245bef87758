import { ServiceError } from '@platform/errors';
import { newContext, runInContext } from '@platform/request-context';
import { isLocked, isTooSlow } from './database-errors';
import { assertNoOpenTransaction } from './open-transaction';

/** While this many batches are on their way to the database, what comes waits for the next one. */
const MAX_IN_FLIGHT = 2;
/**
 * So many do not wait until more are on their way: in a storm an answer waits until Node comes to its socket, and the
 * database would have nothing to do.
 */
const WORTH_ANOTHER_BATCH = 64;
const MAX_IN_FLIGHT_OF_MANY = 4;
const MAX_BATCH_SIZE = 128;
/** After a batch that took less than this, the next may be twice as large: a statement may take four times as long. */
const QUICK_MS = 250;
const MAX_BATCH_WEIGHT = 1_000;
/** This many go as two batches when none is on its way: one half is answered while the other is on its way. */
const WORTH_TWO_BATCHES = 16;
/** Not reached where those who add are limited themselves, as are requests (384 at once) and events (200 per consumer). */
const MAX_QUEUE_LENGTH = 1_000;

/**
 * All that wait are given up after more than this many that `lock_timeout` ended alone, of one batch or of several of which
 * nothing got through: the table may be locked, and each would wait for as long.
 */
const MAX_LOCKED = 1;

interface Waiting<Item, Result> {
  readonly item: Item;
  readonly resolve: (result: Result) => void;
  readonly reject: (error: unknown) => void;
}

/**
 * Does what arrives together with one statement, so that many share its round trip, and a write its flush to disk (group
 * commit). Nothing waits for company: a batch is what has come while the batches before it were on their way, or in the
 * same turn of the event loop, and a lone item goes at once.
 */
export class Batcher<Item, Result> {
  private readonly waiting: Waiting<Item, Result>[] = [];
  private inFlight = 0;
  /** Halved by a batch that takes too long, and raised again by those that do not. */
  private maxSize = MAX_BATCH_SIZE;
  /** Since anything was last done. */
  private lockedInARow = 0;

  /**
   * @param send does all items or none, and gives in the same order their results, or an error for one that is refused by
   * itself. It belongs to no one's request: the items may be those of several clients.
   * @param weigh how much there is of an item; a batch holds at most 1,000, so that large items do not make one that
   * takes longer than a statement may. What weighs more goes alone.
   */
  constructor(
    private readonly send: (items: readonly Item[]) => Promise<readonly (Result | Error)[]>,
    private readonly weigh: (item: Item) => number = () => 1,
  ) {}

  /**
   * @returns the item's result; of a write, once it is committed
   * @throws {ServiceError} SERVICE_UNAVAILABLE at once, when too many wait already
   * @throws {Error} within a transaction, as {@link Database.run} does
   */
  async add(item: Item): Promise<Result> {
    assertNoOpenTransaction(); // whoever sets off a batch does so for all of it
    if (this.waiting.length >= this.maxQueueLength)
      throw ServiceError.unavailable(new Error('Too many wait for the database already'));
    // Those that are added together go together; who finds others waiting goes when they do, or makes them many.
    const { length } = this.waiting;
    if (length === 0 || length === WORTH_ANOTHER_BATCH - 1) queueMicrotask(() => this.sendNext());
    return new Promise((resolve, reject) => this.waiting.push({ item, resolve, reject }));
  }

  private sendNext(): void {
    while (this.waiting.length > 0 && this.inFlight < this.maxInFlight) {
      const batch = this.waiting.splice(0, this.nextLength());
      this.inFlight += 1;
      void runInContext(newContext(), () => this.settle(batch)).finally(() => {
        this.inFlight -= 1;
        this.sendNext();
      });
    }
  }

  private get maxInFlight(): number {
    return this.waiting.length < WORTH_ANOTHER_BATCH ? MAX_IN_FLIGHT : MAX_IN_FLIGHT_OF_MANY;
  }

  /** Of a database that is too slow for what comes, only those wait who go next. */
  private get maxQueueLength(): number {
    return this.maxSize === MAX_BATCH_SIZE ? MAX_QUEUE_LENGTH : MAX_IN_FLIGHT * this.maxSize;
  }

  private nextLength(): number {
    let weight = 0;
    const end = this.waiting.findIndex(({ item }, index) => {
      weight += this.weigh(item);
      return index > 0 && (index === this.maxSize || weight > MAX_BATCH_WEIGHT);
    });
    const length = end === -1 ? this.waiting.length : end;
    return this.inFlight === 0 && length >= WORTH_TWO_BATCHES ? Math.ceil(length / 2) : length;
  }

  private async settle(batch: readonly Waiting<Item, Result>[]): Promise<void> {
    const fault = await this.trySend(batch);
    if (!fault) return;
    if (batch.length > 1 && isTooSlow(fault)) return this.shrinkBatches(batch, fault);
    if (this.affectsAll(fault)) return this.rejectAll(batch, fault);
    // It is about one of them, or about what that one met: nobody is to pay for a neighbour.
    if (batch.length === 1) return batch[0]!.reject(fault);
    let locked = 0;
    for (const [index, one] of batch.entries()) {
      const own = await this.trySend([one]);
      if (!own) continue;
      one.reject(own);
      if (isLocked(own)) locked += 1;
      if (this.affectsAll(own) || locked > MAX_LOCKED) return this.rejectAll(batch.slice(index + 1), own);
    }
  }

  private affectsAll(fault: Error): boolean {
    return ServiceError.isUnavailable(fault) && (!isLocked(fault) || this.lockedInARow > MAX_LOCKED);
  }

  /**
   * Those who wait would hear the same, each after as long a wait.
   * @param from the place in the queue of the first of them
   */
  private rejectAll(batch: readonly Waiting<Item, Result>[], fault: Error, from = 0): void {
    for (const { reject } of [...batch, ...this.waiting.splice(from)]) reject(fault);
  }

  /** Were all refused, they would come again together, as another batch that is too large. */
  private shrinkBatches(batch: readonly Waiting<Item, Result>[], fault: Error): void {
    this.maxSize = Math.min(this.maxSize, Math.floor(batch.length / 2));
    this.rejectAll(batch, fault, this.maxQueueLength);
  }

  private raiseMaxSizeTo(size: number): void {
    this.maxSize = Math.min(MAX_BATCH_SIZE, size);
  }

  /** @returns what kept all of the batch from being done */
  private async trySend(batch: readonly Waiting<Item, Result>[]): Promise<Error | undefined> {
    const start = performance.now();
    try {
      const results = await this.send(batch.map(({ item }) => item));
      for (const [index, { resolve, reject }] of batch.entries()) {
        const result = results[index]!;
        if (result instanceof Error) reject(result);
        else resolve(result);
      }
      this.lockedInARow = 0;
      if (performance.now() - start < QUICK_MS) this.raiseMaxSizeTo(2 * this.maxSize);
      // Each commit may take long, however few it is for.
      else if (batch.length >= this.maxSize) this.raiseMaxSizeTo(this.maxSize + 1);
      return undefined;
    } catch (error) {
      if (batch.length === 1 && isLocked(error)) this.lockedInARow += 1;
      return error as Error;
    }
  }
}
