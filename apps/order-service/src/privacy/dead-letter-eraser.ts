import { Inject, Injectable, Logger } from '@nestjs/common';
import { CONFIG, type Config } from '@platform/config';
import { Database } from '@platform/database';
import { JobQueue, JobRunner } from '@platform/jobs';
import { DeadLetterBox, deadLetterTopicOf, type Letter } from '@platform/kafka';
import { withDeadLetterLock } from '../dead-letter-lock';
import { ORDERS_TOPIC } from '../orders-topic';
import { ERASE_DEAD_LETTERS, type EraseDeadLetters, ordersErased } from './erasure-store';

/** For when another process changes dead letters: `npm run dlq`, or such a job of a runner that counts as dead. */
const RETRY_OPTIONS = { delayMs: 5_000, oneAtATime: true };

/** Erases customers in the dead letter topic, the only one whose records the service can replace. */
@Injectable()
export class DeadLetterEraser {
  private readonly logger = new Logger(DeadLetterEraser.name);

  constructor(
    @Inject(CONFIG) private readonly config: Config,
    private readonly database: Database,
    private readonly jobs: JobQueue,
    runner: JobRunner,
  ) {
    runner.handle<EraseDeadLetters>(ERASE_DEAD_LETTERS, (job) => this.eraseUnderLock(job));
  }

  /** Rejects while Kafka is unavailable, or if the lock was lost: the job is then run again. */
  private async eraseUnderLock(job: EraseDeadLetters): Promise<void> {
    const { kafka } = this.config;
    if (!kafka) return; // without Kafka, failed events stay parked in the outbox
    const hadLock = await withDeadLetterLock(this.config, 'dead letter eraser', async (assertLockHeld, client) =>
      this.erase(kafka, job, await ordersErased(client, job), assertLockHeld),
    );
    if (hadLock) return;
    await this.database.inTransaction((tx) => this.jobs.enqueueAgain(tx, ERASE_DEAD_LETTERS, job, RETRY_OPTIONS));
  }

  private async erase(
    kafka: NonNullable<Config['kafka']>,
    { pseudonym }: EraseDeadLetters,
    orders: ReadonlySet<string>,
    assertLockHeld: () => Promise<unknown>,
  ): Promise<void> {
    if (orders.size === 0) return;
    const change = (letter: Letter) =>
      orders.has(letter.key?.toString() ?? '') ? withPseudonym(letter, pseudonym) : undefined;
    const partitions = new Set<number>();
    const visit = (letter: Letter) => {
      if (change(letter) !== undefined) partitions.add(letter.partition);
    };
    const box = await DeadLetterBox.open(kafka, deadLetterTopicOf(ORDERS_TOPIC), visit, assertLockHeld);
    try {
      const changed = await box.rewrite(partitions, change);
      if (changed > 0) this.logger.log({ changed }, 'An erased customer was taken out of the dead letters');
    } finally {
      await box.close().catch(() => undefined);
    }
  }
}

/** @returns the erased value; undefined when there is nothing to erase; null, which deletes it, when it is not JSON */
function withPseudonym({ value }: Letter, pseudonym: string): Buffer | null | undefined {
  if (value === null) return undefined;
  try {
    const { metadata, reason, ...data } = JSON.parse(value.toString()) as Record<string, unknown>;
    if (data['customerId'] === pseudonym && metadata === undefined && reason === undefined) return undefined;
    return Buffer.from(JSON.stringify({ ...data, customerId: pseudonym }));
  } catch {
    return null;
  }
}
