import { type ICustomPartitioner, Partitioners } from 'kafkajs';

/**
 * Records which partitions the producer chose for the current send. There is one send at a time.
 *
 * When kafkajs retries, it remembers which brokers have answered, not which partitions. If a partition moves to a
 * broker that has answered already, the retry skips the partition and the send resolves as if everything had arrived.
 * So the chosen partitions have to be compared with the acknowledged ones.
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

  /** To be called before each send. */
  clear(): void {
    this.chosen.clear();
  }

  /** To be called after each send. @throws {Error} if a chosen partition was not acknowledged */
  assertAcknowledged(acknowledged: readonly { readonly partition: number }[]): void {
    const missing = this.chosen.difference(new Set(acknowledged.map(({ partition }) => partition)));
    if (missing.size > 0) throw new Error(`Kafka acknowledged nothing for the partitions ${[...missing].join(', ')}`);
  }
}
