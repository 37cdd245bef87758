import { Inject, Injectable, Logger } from '@nestjs/common';
import { CONFIG, type Config } from '@platform/config';
import { JobRunner } from '@platform/jobs';
import { DeadLetterBox, deadLetterTopicOf, type OpenLetter, ORDERS_TOPIC } from '@platform/messaging';
import { ERASE_DEAD_LETTERS, type EraseDeadLetters, ErasureStore } from './erasure-store';

/** Takes erased customers out of the dead letters: the one topic of ours in which records can be replaced. */
@Injectable()
export class DeadLetterEraser {
  private readonly logger = new Logger(DeadLetterEraser.name);

  constructor(
    @Inject(CONFIG) private readonly config: Config,
    private readonly store: ErasureStore,
    runner: JobRunner,
  ) {
    runner.handle<EraseDeadLetters>(ERASE_DEAD_LETTERS, (job) => this.erase(job));
  }

  /** Rejects while Kafka is away: the job is then run again. */
  private async erase(job: EraseDeadLetters): Promise<void> {
    const { kafka } = this.config;
    if (!kafka) return; // then what is parked stands in the outbox
    const orders = await this.store.ordersOf(job);
    if (orders.size === 0) return;
    const box = await DeadLetterBox.open(kafka, deadLetterTopicOf(ORDERS_TOPIC));
    try {
      const changed = await box.rewrite((letter) =>
        orders.has(letter.key?.toString() ?? '') ? withPseudonym(letter, job.pseudonym) : undefined,
      );
      if (changed > 0) this.logger.log({ changed }, 'An erased customer was taken out of the dead letters');
    } finally {
      await box.close().catch(() => undefined);
    }
  }
}

/** @returns undefined where the pseudonym stands already, null for a value that cannot be read */
export function withPseudonym({ value }: Pick<OpenLetter, 'value'>, pseudonym: string): Buffer | null | undefined {
  if (value === null) return undefined;
  try {
    const { metadata, reason, ...data } = JSON.parse(value.toString()) as Record<string, unknown>;
    if (data['customerId'] === pseudonym && metadata === undefined && reason === undefined) return undefined;
    return Buffer.from(JSON.stringify({ ...data, customerId: pseudonym }));
  } catch {
    return null;
  }
}
