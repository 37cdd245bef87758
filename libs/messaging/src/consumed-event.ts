import { newContext, orderIdOf, type RequestContext } from '@platform/request-context';
import type { IHeaders } from 'kafkajs';

/** An event as its consumer gets it: attributes of CloudEvents, and the data as parsed JSON. */
export interface ConsumedEvent {
  /** The same on every redelivery. */
  readonly id: string;
  readonly type: string;
  /** The id of the thing that it is about, for example an order. */
  readonly subject: string;
  readonly data: unknown;
  /** The context in which it is consumed. */
  readonly context: RequestContext;
}

/**
 * A record of a few kilobytes may contain, once decompressed, more JSON than the process has memory for. An event of an
 * order has at most 0.5 MB.
 */
const MAX_VALUE_BYTES = 2 * 1024 * 1024;

/** A message that no retry can make valid. */
export class MalformedEvent extends Error {
  override readonly name = 'MalformedEvent';
}

/** A header's text; undefined if it is missing, empty or repeated. */
export function textHeader(headers: IHeaders, name: string): string | undefined {
  const value = headers[name] as Buffer | string | (Buffer | string)[] | null | undefined; // kafkajs does give null
  return Array.isArray(value) ? undefined : value?.toString() || undefined;
}

/**
 * Reads a CloudEvents message in the Kafka binding's binary mode, as `toMessage` writes it.
 * @throws {MalformedEvent}
 */
export function toConsumedEvent(headers: IHeaders, value: Buffer | null, context: RequestContext): ConsumedEvent {
  const attribute = (name: string) => {
    const text = textHeader(headers, name);
    if (text === undefined) throw new MalformedEvent(`The header ${name} is missing`);
    return text;
  };
  const [id, type, subject] = ['ce_id', 'ce_type', 'ce_subject'].map(attribute) as [string, string, string];
  return { id, type, subject, data: toData(value), context };
}

/** A context that continues the trace of the work that published an event. */
export function contextOf(headers: IHeaders): RequestContext {
  const context = newContext({
    requestId: textHeader(headers, 'x-request-id'),
    traceparent: textHeader(headers, 'traceparent'),
  });
  return { ...context, orderId: orderIdOf(textHeader(headers, 'ce_subject')) };
}

function toData(value: Buffer | null): unknown {
  if (value && value.length > MAX_VALUE_BYTES) throw new MalformedEvent(`The value exceeds ${MAX_VALUE_BYTES} bytes`);
  try {
    return JSON.parse(value?.toString() ?? '') as unknown;
  } catch {
    throw new MalformedEvent('The value is not JSON');
  }
}
