import { TableRows } from '@platform/database';
import { newTimeId } from '@platform/ids';
import { currentContext, traceparent } from '@platform/request-context';

/** An event to be published, as given by the feature in which it happened. */
export interface NewEvent {
  /** For example `order.created`. */
  readonly type: string;
  readonly aggregateType: string;
  /** Key of the Kafka message: events with the same key keep their order. */
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
  /** JSON. */
  readonly payload: string;
  readonly sequence: number;
  readonly traceparent: string | null;
  readonly request_id: string | null;
}

export const OUTBOX = new TableRows('outbox', {
  id: 'uuid',
  aggregatetype: 'text',
  aggregateid: 'text',
  type: 'text',
  payload: 'json',
  sequence: 'integer',
  traceparent: 'text',
  request_id: 'text',
});

/** The outbox row of `event`. It continues the trace of the current work. */
export function outboxRow(event: NewEvent): OutboxRow {
  const context = currentContext();
  return {
    id: newTimeId(),
    aggregatetype: event.aggregateType,
    aggregateid: event.aggregateId,
    type: event.type,
    payload: JSON.stringify(event.data),
    sequence: event.sequence,
    traceparent: context ? traceparent(context.trace) : null,
    request_id: context?.requestId ?? null,
  };
}
