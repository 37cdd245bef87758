import type { ClientKafka } from '@nestjs/microservices';
import { KafkaJSNumberOfRetriesExceeded, KafkaJSProtocolError } from 'kafkajs';
import { type Observable, of, throwError } from 'rxjs';
import { ChosenPartitions } from './chosen-partitions';
import { EventRefused } from './event-publisher';
import { KafkaPublisher } from './kafka-publisher';
import type { StoredEvent } from './stored-event';

const EVENT = {
  id: '0190f6a2-0000-7000-8000-000000000001',
  aggregatetype: 'order',
  aggregateid: 'ord_1',
  type: 'order.created',
  payload: '{}',
  created_at: new Date(),
} as StoredEvent;
const METADATA = [{ partitionId: 0, leader: 1, replicas: [], isr: [], partitionErrorCode: 0 }];

describe('KafkaPublisher.publish', () => {
  /** @param answer what comes of a send, for which the partition 0 is chosen */
  function publisherWith(answer: Observable<{ partition: number }[]>) {
    const partitions = new ChosenPartitions();
    const choose = partitions.createPartitioner();
    const close = jest.fn().mockResolvedValue(undefined);
    const emitBatch: jest.Mock = jest.fn((topic: string, { messages }: { messages: never[] }) => {
      for (const message of messages) choose({ topic, partitionMetadata: METADATA, message });
      return answer;
    });
    const client = { emitBatch, close } as unknown as ClientKafka;
    return { publisher: new KafkaPublisher(client, partitions, 'things.events'), emitBatch, close };
  }

  it('resolves when the partition of its topic acknowledged, and keeps its producer', async () => {
    const { publisher, emitBatch, close } = publisherWith(of([{ partition: 0 }]));
    await publisher.publish([EVENT]);
    expect(emitBatch).toHaveBeenCalledWith('things.events', expect.anything());
    expect(close).not.toHaveBeenCalled();
  });

  it('rejects when the partition acknowledged nothing, although the send resolved, and gives up its producer', async () => {
    const { publisher, close } = publisherWith(of([]));
    await expect(publisher.publish([EVENT])).rejects.toThrow('nothing for the partitions 0');
    expect(close).toHaveBeenCalledTimes(1);
  });

  const failure = (type: string) => new KafkaJSProtocolError(Object.assign(new Error('No'), { type, code: 1 }));

  it.each(['MESSAGE_TOO_LARGE', 'RECORD_LIST_TOO_LARGE', 'INVALID_RECORD'])('takes %s for good', async (type) => {
    const { publisher, close } = publisherWith(throwError(() => failure(type)));
    await expect(publisher.publish([EVENT])).rejects.toThrow(EventRefused);
    expect(close).toHaveBeenCalledTimes(1);
  });

  it('takes what another attempt may mend for a failure, as it came', async () => {
    const retried = { retryCount: 3, retryTime: 700 };
    const error = new KafkaJSNumberOfRetriesExceeded(failure('NOT_ENOUGH_REPLICAS'), retried);
    const { publisher } = publisherWith(throwError(() => error));
    await expect(publisher.publish([EVENT])).rejects.toBe(error);
  });
});
