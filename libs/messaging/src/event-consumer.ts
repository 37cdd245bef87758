import { setTimeout as delay } from 'node:timers/promises';
import { Inject, Injectable, Logger } from '@nestjs/common';
import { CONFIG, type Config } from '@platform/config';
import { isForbidden, isMissingTable, type Transaction } from '@platform/database';
import { ServiceError } from '@platform/errors';
import { DeadLetters } from '@platform/kafka';
import { runInContext } from '@platform/request-context';
import { type EndedSpan, errorTypeOf, Spans } from '@platform/tracing';
import type { KafkaContext } from '@nestjs/microservices';
import { InjectMetric } from '@willsoto/nestjs-prometheus';
import type { Counter } from 'prom-client';
import { type ConsumedEvent, contextOf, MalformedEvent, textHeader, toConsumedEvent } from './consumed-event';
import { type EventHandler, type EventHandlers, Inbox } from './inbox';
import { messageSpan } from './message-span';

const ATTEMPTS = 5;
const FIRST_BACKOFF_MS = 100;

/** Makes an event handler of a function that handles one event, each in its own context. */
export function oneByOne(handler: (tx: Transaction, event: ConsumedEvent) => Promise<void>): EventHandler {
  return async (tx, events) => {
    for (const event of events) await runInContext(event.context, () => handler(tx, event));
  };
}

type Outcome = 'processed' | 'duplicate' | 'dead_lettered';

/**
 * Passes events to their handlers, so that each takes effect once however often it is delivered: its id is written to
 * the inbox in the transaction of its effect. An event that fails permanently becomes a dead letter, and later events
 * go on.
 */
@Injectable()
export class EventConsumer {
  private readonly logger = new Logger(EventConsumer.name);
  /** Names of the consumers that were given each delivery. */
  private readonly deliveredTo = new WeakMap<KafkaContext, Set<string>>();

  constructor(
    @Inject(CONFIG) private readonly config: Config,
    private readonly inbox: Inbox,
    private readonly deadLetters: DeadLetters,
    private readonly spans: Spans,
    @InjectMetric('events_consumed_total') private readonly consumed: Counter<'type' | 'outcome'>,
  ) {}

  /**
   * To be called by an `@OnEvents` handler, with the context that it got. Event types without a handler are ignored.
   * @param consumer unique name of the consumer, recorded in the inbox and in dead letters
   * @throws the error that kept the event from being processed, such as an unavailable database; it is then delivered
   *   again
   */
  async consume(consumer: string, context: KafkaContext, handlers: EventHandlers): Promise<void> {
    const { headers = {}, value } = context.getMessage();
    const type = textHeader(headers, 'ce_type');
    // Metric labels must be bounded: other publishers can choose any type.
    const label = type !== undefined && Object.hasOwn(handlers, type) ? type : 'other';
    if (type !== undefined && label === 'other') {
      this.consumed.inc({ type: label, outcome: 'ignored' });
      return;
    }
    const names = this.deliveredTo.get(context) ?? new Set();
    // Otherwise the second consumer would take the event for a duplicate.
    if (names.has(consumer)) throw new Error(`Two consumers of ${context.getTopic()} are named ${consumer}`);
    this.deliveredTo.set(context, names.add(consumer));
    const start = performance.now();
    const eventContext = contextOf(headers);
    const read = () => toConsumedEvent(headers, value, eventContext);
    let error: string | undefined;
    try {
      const outcome = await runInContext(eventContext, () => this.handle(consumer, context, handlers, read));
      this.consumed.inc({ type: label, outcome });
      if (outcome === 'dead_lettered') error = outcome;
    } catch (cause) {
      error = errorTypeOf(cause);
      throw cause;
    } finally {
      const { trace, orderId } = eventContext;
      if (this.spans.has(trace)) this.spans.add(trace, { ...this.spanOf(context, orderId), start, error });
    }
  }

  private spanOf(context: KafkaContext, orderId: string | undefined): Pick<EndedSpan, 'name' | 'kind' | 'attributes'> {
    const { headers = {}, offset } = context.getMessage();
    const [eventId, eventType] = ['ce_id', 'ce_type'].map((name) => textHeader(headers, name));
    const span = messageSpan('process', { topic: context.getTopic(), eventId, eventType }, this.config);
    const { kafka } = this.config;
    const place = kafka && {
      'messaging.consumer.group.name': kafka.consumerGroup,
      'messaging.destination.partition.id': String(context.getPartition()),
      'messaging.kafka.offset': Number(offset),
    };
    return { ...span, attributes: { ...span.attributes, ...place, 'app.order.id': orderId } };
  }

  private async handle(
    consumer: string,
    context: KafkaContext,
    handlers: EventHandlers,
    read: () => ConsumedEvent,
  ): Promise<Outcome> {
    for (let attempts = 1; ; attempts += 1) {
      try {
        const event = read();
        const isFirst = await this.inbox.once(consumer, event, handlers, { alone: attempts > 1 });
        return isFirst ? 'processed' : 'duplicate';
      } catch (error) {
        // Not the event's fault, so it costs no attempt: the database is unavailable, or lacks a table or a privilege.
        if (ServiceError.isUnavailable(error) || isForbidden(error) || isMissingTable(error)) throw error;
        if (attempts < ATTEMPTS && !isFinal(error)) {
          const line = { err: error, ...originOf(context), eventId: eventIdIn(context), consumer, attempts };
          this.logger.warn(line, 'An event failed; it is tried again');
          // Rejects if the partition was reassigned: then the event is no longer ours to process.
          await context.getHeartbeat()?.();
          await delay(FIRST_BACKOFF_MS * 2 ** attempts * Math.random());
          continue;
        }
        await this.giveUp(consumer, context, error, attempts);
        return 'dead_lettered';
      }
    }
  }

  private async giveUp(consumer: string, context: KafkaContext, error: unknown, attempts: number): Promise<void> {
    const { key, value, headers = {} } = context.getMessage();
    const reason = error instanceof Error ? error.message : String(error);
    const origin = originOf(context);
    const line = { err: error, ...origin, eventId: eventIdIn(context), consumer, attempts };
    this.logger.error(line, 'An event failed for good');
    await this.deadLetters.send({ message: { key, value, headers }, ...origin, consumer, reason, attempts });
  }
}

const originOf = (context: KafkaContext) => ({
  topic: context.getTopic(),
  partition: context.getPartition(),
  offset: context.getMessage().offset,
});

const eventIdIn = (context: KafkaContext) => textHeader(context.getMessage().headers ?? {}, 'ce_id');

/** What no retry can fix: malformed events, data exceptions and violated constraints (SQLSTATE classes 22 and 23). */
function isFinal(error: unknown): boolean {
  const { code } = error as { code?: unknown };
  return error instanceof MalformedEvent || (typeof code === 'string' && /^2[23]/.test(code));
}
