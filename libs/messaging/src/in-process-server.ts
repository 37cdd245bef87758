import { type CustomTransportStrategy, KafkaContext, Server } from '@nestjs/microservices';
import { lastValueFrom } from 'rxjs';
import type { toMessage } from './stored-event';

/**
 * An in-memory transport for running without Kafka: the relay passes each event directly to the `@OnEvents` handlers in
 * the same process, with the arguments that they get from Kafka, and waits for them.
 */
export class InProcessServer extends Server implements CustomTransportStrategy {
  override readonly transportId = Symbol('in-process');

  override listen(callback: () => void): void {
    callback();
  }

  override close(): void {}

  override on(): never {
    throw new Error('The in-process transport has no events of its own');
  }

  override unwrap(): never {
    throw new Error('The in-process transport has no client underneath');
  }

  /** Resolves once all handlers of the topic have. Rejects if one does. */
  async deliver(topic: string, { key, value, headers }: ReturnType<typeof toMessage>): Promise<void> {
    const handler = this.messageHandlers.get(topic); // see KafkaEventServer.getHandlerByPattern
    if (!handler) return;
    const bytes = Object.entries(headers).map(([name, text]) => [name, Buffer.from(text)]);
    const message = {
      key: Buffer.from(key),
      value: Buffer.from(value),
      headers: Object.fromEntries(bytes) as Record<string, Buffer>,
      offset: '0',
    };
    const context = new KafkaContext([message, 0, topic, undefined, undefined, undefined] as never);
    const result = this.transformToObservable(await handler(message.value, context));
    await lastValueFrom(result, { defaultValue: undefined });
  }
}
