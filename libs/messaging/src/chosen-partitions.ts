import { type ICustomPartitioner, Partitioners } from 'kafkajs';

/**
 * The partitions that the producer chose for the send under way; there is one at a time.
 *
 * kafkajs remembers over its retries which brokers have answered, not which partitions. When a partition moves to a
 * broker that had answered already, the retry leaves it out and the send resolves as if all had arrived. What was chosen
 * must therefore be compared with what was acknowledged.
 */
export class ChosenPartitions {
  private readonly chosen = new Set<number>();

  readonly createPartitioner: ICustomPartitioner = () => {
    const choose = Partitioners.DefaultPartitioner();
    return (args) => {
      const partition = choose(args);
      this.chosen.add(partition);
      return partition;
    };
  };

  /** Before a send. */
  clear(): void {
    this.chosen.clear();
  }

  /** After a send. @throws {Error} when a partition that was chosen was not acknowledged */
  assertAcknowledged(acknowledged: readonly { readonly partition: number }[]): void {
    const missing = this.chosen.difference(new Set(acknowledged.map(({ partition }) => partition)));
    if (missing.size > 0) throw new Error(`Kafka acknowledged nothing for the partitions ${[...missing].join(', ')}`);
  }
}
