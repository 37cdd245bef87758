import { fromUUID } from 'typeid-js';
import type { OutboxRow } from './outbox-row';

/** An event as the relay reads it from the table `outbox`. */
export interface StoredEvent extends Omit<OutboxRow, 'payload'> {
  /** Position in the outbox; a `bigint`, so a string. */
  readonly position: string;
  /** JSON, as it was written. */
  readonly payload: string;
  readonly created_at: Date;
}

/** The event's `ce_id`: a TypeID with the prefix `evt`. */
export function eventIdOf({ id }: Pick<StoredEvent, 'id'>): string {
  return fromUUID(id, 'evt');
}

/**
 * The event as a CloudEvents 1.0 message in the Kafka binding's binary mode
 * (https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/kafka-protocol-binding.md#32-binary-content-mode).
 */
export function toMessage(event: StoredEvent) {
  return {
    key: event.aggregateid,
    value: event.payload,
    headers: {
      ce_specversion: '1.0',
      ce_id: eventIdOf(event),
      ce_type: event.type,
      ce_source: `/${event.aggregatetype}s`,
      ce_subject: event.aggregateid,
      ce_time: event.created_at.toISOString(),
      ce_sequence: String(event.sequence),
      ce_dataschema: `urn:order-a2a:schema:${event.type}:1`,
      'content-type': 'application/json',
      ...(event.traceparent !== null && { traceparent: event.traceparent }),
      ...(event.request_id !== null && { 'x-request-id': event.request_id }),
    },
  };
}
