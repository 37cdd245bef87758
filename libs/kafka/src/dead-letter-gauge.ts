import { BackgroundWork } from '@platform/background';
import type { Config } from '@platform/config';
import type { Gauge } from 'prom-client';
import { quietKafka } from './kafka-options';
import { deadLetterTopicOf } from './topics';

const MEASURE_EVERY_MS = 60_000;

/**
 * Shows whether dead letters of a topic are open. To know how many, one would have to read all of them; that none is
 * can be seen from the offsets, because resolved letters are deleted up to the first open one.
 */
export class DeadLetterGauge extends BackgroundWork {
  constructor(
    private readonly kafka: NonNullable<Config['kafka']>,
    private readonly topic: string,
    private readonly records: Gauge,
  ) {
    super();
    records.remove(); // before the first measurement, a 0 would look like one
  }

  /** Does not wait for a measurement under way: a broker may take long, and nobody needs the last value. */
  override async onApplicationShutdown(): Promise<void> {}

  async measure(): Promise<void> {
    // A new client each time: a long-lived one sticks to the partition leaders that it knew first.
    const admin = quietKafka(this.kafka).admin();
    const name = deadLetterTopicOf(this.topic);
    try {
      await admin.connect();
      // Asking for the offsets of a topic that does not exist can create it.
      if (!(await admin.listTopics()).includes(name)) throw new Error(`The topic ${name} does not exist`);
      const partitions = await admin.fetchTopicOffsets(name);
      this.records.set(partitions.reduce((sum, { low, high }) => sum + Number(high) - Number(low), 0));
    } catch {
      this.records.remove(); // a stale value would look current
    }
    await admin.disconnect().catch(() => undefined);
  }

  protected async run(): Promise<void> {
    while (!this.stop.signal.aborted) {
      await this.measure();
      await this.pause(MEASURE_EVERY_MS);
    }
  }
}
