import type { OnApplicationShutdown } from '@nestjs/common';
import type { Config } from '@platform/config';
import type { Producer } from 'kafkajs';
import { letterHeaders, omitting } from './dead-letter-headers';
import { type DeadLetter, DeadLetters } from './dead-letters';
import { isRefusedWith, PRODUCER_OPTIONS, quietKafka } from './kafka-options';
import { deadLetterTopicOf } from './topics';

/** Length of the reason if the letter would be too large otherwise. The log has all of it. */
const SHORT_REASON_LENGTH = 40;

const EMPTY_MESSAGE = { key: null, value: null, headers: {} };

const TOO_LARGE = new Set(['MESSAGE_TOO_LARGE', 'RECORD_LIST_TOO_LARGE']);

/** Appends each letter to the dead letter topic of its message's topic, under the message's key. */
export class KafkaDeadLetters extends DeadLetters implements OnApplicationShutdown {
  private readonly producer: Producer;

  constructor(kafka: NonNullable<Config['kafka']>) {
    super();
    this.producer = quietKafka(kafka).producer(PRODUCER_OPTIONS);
  }

  /** Rejects if Kafka does not store the letter. Calls may overlap. */
  async send(letter: DeadLetter): Promise<void> {
    const { topic, message } = letter;
    const time = new Date();
    const short = letterHeaders(letter, time, SHORT_REASON_LENGTH);
    const added = letterHeaders({ ...letter, message: EMPTY_MESSAGE }, time, SHORT_REASON_LENGTH);
    // A message that was compressed may be far larger than the topic's limit: then less and less of it is kept.
    const forms = [
      { ...message, headers: letterHeaders(letter, time) },
      { ...message, headers: short },
      { ...message, value: null, headers: omitting('value', short) },
      { ...EMPTY_MESSAGE, headers: omitting('key, headers, value', added) },
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
    // Has no effect while connected.
    await this.producer.connect();
    await this.producer.send({
      topic: deadLetterTopicOf(topic),
      acks: -1,
      messages: [{ ...message, timestamp: String(time.getTime()) }],
    });
  }
}
