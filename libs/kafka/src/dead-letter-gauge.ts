import { setTimeout as delay } from 'node:timers/promises';
import type { BeforeApplicationShutdown, OnApplicationBootstrap } from '@nestjs/common';
import type { Config } from '@platform/config';
import type { Gauge } from 'prom-client';
import { quietKafka } from './kafka-options';
import { deadLetterTopicOf } from './topics';

const MEASURE_EVERY_MS = 60_000;

/**
 * Tells whether dead letters of a topic wait for somebody. How many are open is known only to who reads all of them; that
 * none is can be seen from the offsets, as what is resolved is deleted up to the first open letter.
 */
export class DeadLetterGauge implements OnApplicationBootstrap, BeforeApplicationShutdown {
  private readonly stop = new AbortController();

  constructor(
    private readonly kafka: NonNullable<Config['kafka']>,
    private readonly topic: string,
    private readonly records: Gauge,
  ) {
    records.remove(); // until it is measured, a 0 would seem to be so
  }

  onApplicationBootstrap(): void {
    void this.run();
  }

  beforeApplicationShutdown(): void {
    this.stop.abort();
  }

  async measure(): Promise<void> {
    // Anew each time: one that lives on keeps to the leaders of partitions that it knew first.
    const admin = quietKafka(this.kafka).admin();
    const name = deadLetterTopicOf(this.topic);
    try {
      await admin.connect();
      // To ask for the offsets of a topic that there is not can create it.
      if (!(await admin.listTopics()).includes(name)) throw new Error(`The topic ${name} does not exist`);
      const partitions = await admin.fetchTopicOffsets(name);
      this.records.set(partitions.reduce((sum, { low, high }) => sum + Number(high) - Number(low), 0));
    } catch {
      this.records.remove(); // what was last seen would seem to be so
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
