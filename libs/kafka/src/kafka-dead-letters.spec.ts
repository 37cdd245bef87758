import { Kafka, type ProducerRecord } from 'kafkajs';
import { KafkaDeadLetters } from './kafka-dead-letters';

describe('KafkaDeadLetters', () => {
  afterEach(() => jest.restoreAllMocks());

  it.each(['MESSAGE_TOO_LARGE', 'RECORD_LIST_TOO_LARGE'])(
    'keeps less and less of a message on %s, each time on every replica, and closes its connection',
    async (type) => {
      const send = jest.fn((record: ProducerRecord) =>
        record.messages[0]?.key === null ? Promise.resolve() : Promise.reject(Object.assign(new Error(type), { type })),
      );
      const disconnect = jest.fn(async () => undefined);
      const producer = { connect: async () => undefined, send, disconnect };
      jest.spyOn(Kafka.prototype, 'producer').mockReturnValue(producer as never);
      const deadLetters = new KafkaDeadLetters({ brokers: ['127.0.0.1:9'] } as never);
      const message = { key: Buffer.from('key'), value: Buffer.from('value'), headers: {} };
      const place = { topic: 'things', partition: 0, offset: '1' };
      await deadLetters.send({ message, ...place, consumer: 'c', reason: 'r', attempts: 1 });
      const records = send.mock.calls.map(([{ topic, acks, messages }]) => [topic, acks, messages[0]?.value]);
      expect(records).toEqual([message.value, message.value, null, null].map((value) => ['things.dlq', -1, value]));
      expect(disconnect).not.toHaveBeenCalled();
      await deadLetters.onApplicationShutdown();
      expect(disconnect).toHaveBeenCalledTimes(1);
    },
  );
});
