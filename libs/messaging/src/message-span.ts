import type { Config } from '@platform/config';
import type { EndedSpan } from '@platform/tracing';

interface Message {
  readonly topic: string;
  /** `ce_id` of the event. */
  readonly eventId: string | undefined;
  readonly eventType: string | undefined;
}

/** Other publishers can send ids of any length. Ours have 30 characters. */
const MAX_ID_LENGTH = 64;

const KINDS = { send: 'PRODUCER', process: 'CONSUMER' } as const;

/** The common parts of the spans of sending and processing an event. */
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
