import { ServiceError } from '@platform/errors';
import { newContext, runInContext } from '@platform/request-context';
import { isLocked, isTooSlow } from './database-errors';
import { assertNoOpenTransaction } from './open-transaction';

/** While this many batches are in flight to the database, new items wait for the next one. */
const MAX_IN_FLIGHT = 2;
/**
 * From this many waiting items on, more batches may be in flight: under heavy load an answer waits until Node reads its
 * socket, and the database would have nothing to do meanwhile.
 */
const WORTH_ANOTHER_BATCH = 64;
const MAX_IN_FLIGHT_OF_MANY = 4;
const MAX_BATCH_SIZE = 128;
/** After a batch that took less, the next may be twice as large; `statement_timeout` is four times as long. */
const QUICK_MS = 250;
const MAX_BATCH_WEIGHT = 1_000;
/** This many are sent as two batches when none is in flight: one half is answered while the other is in flight. */
const WORTH_TWO_BATCHES = 16;
/** Not reached by callers that are limited themselves, as are requests (384 at once) and events (200 per consumer). */
const MAX_QUEUE_LENGTH = 1_000;

/**
 * If more than this many items hit `lock_timeout` even when sent alone, in one batch or in several without a success in
 * between, all that wait are rejected: the table itself may be locked, and each of them would wait as long.
 */
const MAX_LOCKED = 1;

interface Waiting<Item, Result> {
  readonly item: Item;
  readonly resolve: (result: Result) => void;
  readonly reject: (error: unknown) => void;
}

/**
 * Handles items that arrive together with one statement, so that they share its round trip and, if it writes, its flush
 * to disk (group commit). No item waits for others: a batch is what has arrived while earlier batches were in flight,
 * or in the same turn of the event loop, and a lone item is sent at once.
 */
export class Batcher<Item, Result> {
  private readonly waiting: Waiting<Item, Result>[] = [];
  private inFlight = 0;
  /** Halved by a batch that takes too long, and raised again by those that do not. */
  private maxSize = MAX_BATCH_SIZE;
  /** How many items, sent alone, hit `lock_timeout` since a batch last succeeded. */
  private lockedInARow = 0;

  /**
   * @param send handles all items or none, and returns their results in the same order, with an error for an item that
   *   is refused by itself. Runs in no request's context: the items may come from several clients.
   * @param weigh weight of an item; a batch weighs at most 1,000, so that large items do not make it take longer than a
   *   statement may. An item that weighs more is sent alone.
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
    assertNoOpenTransaction(); // the batch contains items of other callers too
    if (this.waiting.length >= this.maxQueueLength)
      throw ServiceError.unavailable(new Error('Too many wait for the database already'));
    // Items added in the same turn are sent together. One that finds others waiting is sent with them; only the item
    // that makes them enough for another batch triggers it.
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

  /** While the database is too slow for the load, no more may wait than the next batches hold. */
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
    // The fault is that of one item, or of what it ran into: the others must not fail because of it.
    if (batch.length === 1) return batch[0]!.reject(fault);
    let locked = 0;
    for (const [index, one] of batch.entries()) {
      const itemFault = await this.trySend([one]);
      if (!itemFault) continue;
      one.reject(itemFault);
      if (isLocked(itemFault)) locked += 1;
      if (this.affectsAll(itemFault) || locked > MAX_LOCKED) return this.rejectAll(batch.slice(index + 1), itemFault);
    }
  }

  private affectsAll(fault: Error): boolean {
    return ServiceError.isUnavailable(fault) && (!isLocked(fault) || this.lockedInARow > MAX_LOCKED);
  }

  /**
   * Rejects the batch and what waits behind it, which would get the same error, each after as long a wait.
   * @param from index of the first item in the queue that is rejected
   */
  private rejectAll(batch: readonly Waiting<Item, Result>[], fault: Error, from = 0): void {
    for (const { reject } of [...batch, ...this.waiting.splice(from)]) reject(fault);
  }

  /** Keeps the head of the queue: if all were rejected, they would come again together as another too large batch. */
  private shrinkBatches(batch: readonly Waiting<Item, Result>[], fault: Error): void {
    this.maxSize = Math.min(this.maxSize, Math.floor(batch.length / 2));
    this.rejectAll(batch, fault, this.maxQueueLength);
  }

  private raiseMaxSizeTo(size: number): void {
    this.maxSize = Math.min(MAX_BATCH_SIZE, size);
  }

  /** @returns the error if the batch failed as a whole */
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
      // Commits may be slow however small the batch is.
      else if (batch.length >= this.maxSize) this.raiseMaxSizeTo(this.maxSize + 1);
      return undefined;
    } catch (error) {
      if (batch.length === 1 && isLocked(error)) this.lockedInARow += 1;
      return error as Error;
    }
  }
}
