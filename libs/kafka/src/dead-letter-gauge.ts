import { setTimeout as delay } from 'node:timers/promises';
import type { BeforeApplicationShutdown, OnApplicationBootstrap } from '@nestjs/common';
import type { Config } from '@platform/config';
import type { Gauge } from 'prom-client';
import { quietKafka } from './kafka-options';
import { deadLetterTopicOf } from './topics';

const MEASURE_EVERY_MS = 60_000;

/**
 * Shows whether dead letters of a topic are open. To know how many, one would have to read all of them; that none is
 * can be seen from the offsets, because resolved letters are deleted up to the first open one.
 */
export class DeadLetterGauge implements OnApplicationBootstrap, BeforeApplicationShutdown {
  private readonly stop = new AbortController();

  constructor(
    private readonly kafka: NonNullable<Config['kafka']>,
    private readonly topic: string,
    private readonly records: Gauge,
  ) {
    records.remove(); // before the first measurement, a 0 would look like one
  }

  onApplicationBootstrap(): void {
    void this.run();
  }

  beforeApplicationShutdown(): void {
    this.stop.abort();
  }

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

  private async run(): Promise<void> {
    while (!this.stop.signal.aborted) {
      await this.measure();
      await delay(MEASURE_EVERY_MS, undefined, { signal: this.stop.signal, ref: false }).catch(() => undefined);
    }
  }
}
