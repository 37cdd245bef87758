import type { IHeaders } from 'kafkajs';
import type { DeadLetter } from './dead-letters';

/** Prefix of the headers that we add. Messages have no own headers with it. */
const PREFIX = 'dlq-';

/** Limit of `dlq-reason`, in UTF-16 code units. */
export const MAX_REASON_LENGTH = 1_000;

/**
 * Headers of a letter: those of the message, and who gave up on it, when, why and where it was. If the message is a
 * replay of an earlier letter, the headers that this letter had added are replaced.
 */
export function letterHeaders(letter: DeadLetter, time: Date, longestReason = MAX_REASON_LENGTH): IHeaders {
  return {
    ...originalHeaders(letter.message.headers),
    'dlq-topic': letter.topic,
    'dlq-partition': String(letter.partition),
    'dlq-offset': letter.offset,
    'dlq-consumer': letter.consumer,
    'dlq-reason': oneLine(letter.reason).slice(0, longestReason).toWellFormed(),
    'dlq-attempts': String(letter.attempts),
    'dlq-time': time.toISOString(),
  };
}

/** Headers of a letter without some parts of its message: `dlq-topic` and the next two say where to find them. */
export function omitting(parts: string, headers: IHeaders): IHeaders {
  const reason = `${headerText(headers, 'dlq-reason')} (too large to keep: ${parts})`;
  return { ...headers, 'dlq-reason': reason, 'dlq-omitted': parts };
}

/** Headers of the marker that resolves a letter of the same partition. */
export function markerHeaders(
  letterId: string,
  resolution: 'replayed' | 'dropped' | 'rewritten',
  time: Date,
): IHeaders {
  return { 'dlq-resolves': letterId, 'dlq-resolution': resolution, 'dlq-time': time.toISOString() };
}

/** The headers that the message had before it became a letter. */
export function originalHeaders(headers: IHeaders): IHeaders {
  const own = Object.entries(headers).filter(([name]) => !name.startsWith(PREFIX));
  return writableHeaders(Object.fromEntries(own));
}

/**
 * Makes headers that kafkajs read writable. A null, which it reads if there is no value, becomes empty. For a name that
 * every object has, such as `constructor`, it adds the inherited property before the values; that is removed.
 */
export function writableHeaders(headers: IHeaders): IHeaders {
  return Object.fromEntries(
    Object.entries(headers).map(([name, value]) => [
      name,
      Array.isArray(value) ? value.filter(isValue).map((each) => each ?? '') : (value ?? ''),
    ]),
  );
}

function isValue(each: unknown): boolean {
  return each === null || typeof each === 'string' || Buffer.isBuffer(each);
}

/** The text of a header; of its last occurrence if there are several, undefined if there is none. */
export function headerText(headers: IHeaders, name: string): string | undefined {
  return [headers[name]].flat().at(-1)?.toString();
}

/** The text on one line, without line breaks and anything else that controls a terminal. */
export const oneLine = (text: string) => text.replace(/[\s\p{Cc}\p{Cf}]+/gu, ' ').trim();
