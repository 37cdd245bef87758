import type { Config } from '@platform/config';
import type { EndedSpan } from '@platform/tracing';

interface Message {
  readonly topic: string;
  /** Of the CloudEvent that it carries. */
  readonly eventId: string | undefined;
  readonly eventType: string | undefined;
}

/** Whoever publishes can write what it likes. Ours have 30 characters. */
const MAX_ID_LENGTH = 64;

const KINDS = { send: 'PRODUCER', process: 'CONSUMER' } as const;

/** What the spans of an event's way to its consumers have in common. */
export function messageSpan(
  operation: keyof typeof KINDS,
  { topic, eventId, eventType }: Message,
  { kafka }: Config,
): Pick<EndedSpan, 'name' | 'kind' | 'attributes'> {
  return {
    name: `${operation} ${topic}`,
    kind: KINDS[operation],
    attributes: {
      'messaging.system': kafka ? 'kafka' : 'in_process',
      'messaging.operation.name': operation,
      'messaging.operation.type': operation,
      'messaging.destination.name': topic,
      'messaging.message.id': eventId?.slice(0, MAX_ID_LENGTH),
      'cloudevents.event_type': eventType,
    },
  };
}
