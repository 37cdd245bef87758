import { currentContext, traceparent } from '@platform/request-context';
import { typeidUnboxed, toUUID } from 'typeid-js';

/** A fact to be told, as the feature that it happened in knows it. */
export interface NewEvent {
  /** For example `order.created`. */
  readonly type: string;
  readonly aggregateType: string;
  /** Key of the Kafka message: events with the same one keep their order. */
  readonly aggregateId: string;
  /** 1, 2, 3 … per aggregate. */
  readonly sequence: number;
  readonly data: object;
}

/** A row for the table `outbox`; `aggregatetype`, `aggregateid`, `type` and `payload` are Debezium's column names. */
export interface OutboxRow {
  readonly id: string;
  readonly aggregatetype: string;
  readonly aggregateid: string;
  readonly type: string;
  readonly payload: string;
  readonly sequence: number;
  readonly traceparent: string | null;
  readonly request_id: string | null;
}

/** The row that tells `event` and continues the trace of the work under way. */
export function outboxRow(event: NewEvent): OutboxRow {
  const context = currentContext();
  return {
    id: toUUID(typeidUnboxed()),
    aggregatetype: event.aggregateType,
    aggregateid: event.aggregateId,
    type: event.type,
    payload: JSON.stringify(event.data),
    sequence: event.sequence,
    traceparent: context ? traceparent(context.trace) : null,
    request_id: context?.requestId ?? null,
  };
}
