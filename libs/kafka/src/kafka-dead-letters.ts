import type { OnApplicationShutdown } from '@nestjs/common';
import type { Config } from '@platform/config';
import type { Producer } from 'kafkajs';
import { letterHeaders, omitting } from './dead-letter-headers';
import { type DeadLetter, DeadLetters } from './dead-letters';
import { isRefusedWith, PRODUCER_OPTIONS, quietKafka } from './kafka-options';
import { deadLetterTopicOf } from './topics';

/** Characters of the reason, when the letter would be too large with all of it. The log has the whole. */
const SHORT_REASON = 40;

const NOTHING = { key: null, value: null, headers: {} };

const TOO_LARGE = new Set(['MESSAGE_TOO_LARGE', 'RECORD_LIST_TOO_LARGE']);

/** Appends dead letters to the dead letter topic of the topic that they came from, under the key that they had. */
export class KafkaDeadLetters extends DeadLetters implements OnApplicationShutdown {
  private readonly producer: Producer;

  constructor(kafka: NonNullable<Config['kafka']>) {
    super();
    this.producer = quietKafka(kafka).producer(PRODUCER_OPTIONS);
  }

  /** Rejects when Kafka does not take the letter. May be called again while a letter is under way. */
  async send(letter: DeadLetter): Promise<void> {
    const { topic, message } = letter;
    const time = new Date();
    const short = letterHeaders(letter, time, SHORT_REASON);
    const added = letterHeaders({ ...letter, message: NOTHING }, time, SHORT_REASON);
    // A message that came compressed may be far larger than what the topic takes: then ever less of it is kept.
    const forms = [
      { ...message, headers: letterHeaders(letter, time) },
      { ...message, headers: short },
      { ...message, value: null, headers: omitting('value', short) },
      { ...NOTHING, headers: omitting('key, headers, value', added) },
    ];
    let refusal: unknown;
    for (const form of forms) {
      try {
        return await this.append(topic, form, time);
      } catch (error) {
        if (!isRefusedWith(error, TOO_LARGE)) throw error;
        refusal = error;
      }
    }
    throw refusal;
  }

  async onApplicationShutdown(): Promise<void> {
    await this.producer.disconnect();
  }

  private async append(topic: string, message: DeadLetter['message'], time: Date): Promise<void> {
    // Does nothing while there is a connection.
    await this.producer.connect();
    await this.producer.send({
      topic: deadLetterTopicOf(topic),
      acks: -1,
      messages: [{ ...message, timestamp: String(time.getTime()) }],
    });
  }
}
