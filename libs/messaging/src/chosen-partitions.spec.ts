import { ChosenPartitions } from './chosen-partitions';

describe('ChosenPartitions', () => {
  const metadata = [0, 1, 2].map((partitionId) => ({
    partitionId,
    leader: 1,
    replicas: [],
    isr: [],
    partitionErrorCode: 0,
  }));

  function choose(partitions: ChosenPartitions, keys: string[]): Set<number> {
    const partition = partitions.createPartitioner();
    return new Set(
      keys.map((key) => partition({ topic: 't', partitionMetadata: metadata, message: { key, value: null } })),
    );
  }

  const keys = Array.from({ length: 50 }, (_, i) => `key-${i}`);
  const all = [0, 1, 2].map((partition) => ({ partition }));

  it('chooses as the default partitioner does', () => {
    expect(choose(new ChosenPartitions(), keys)).toEqual(new Set([0, 1, 2]));
  });

  it('accepts a send that was acknowledged for every partition chosen', () => {
    const partitions = new ChosenPartitions();
    choose(partitions, keys);
    expect(() => partitions.assertAcknowledged(all)).not.toThrow();
  });

  it('refuses a send that a partition did not acknowledge', () => {
    const partitions = new ChosenPartitions();
    choose(partitions, keys);
    expect(() => partitions.assertAcknowledged(all.slice(0, 2))).toThrow('nothing for the partitions 2');
    expect(() => partitions.assertAcknowledged([])).toThrow('nothing for the partitions');
  });

  it('forgets the send before', () => {
    const partitions = new ChosenPartitions();
    choose(partitions, keys);
    partitions.clear();
    const [only] = choose(partitions, ['one-key']);
    expect(() => partitions.assertAcknowledged([{ partition: only ?? -1 }])).not.toThrow();
  });
});
