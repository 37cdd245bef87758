import type { IHeaders } from 'kafkajs';
import type { DeadLetter } from './dead-letters';

/** What begins so was added by us. A message's own headers have other names. */
const PREFIX = 'dlq-';

/** Characters of `dlq-reason`. */
export const MAX_REASON_LENGTH = 1_000;

/**
 * Headers of a letter in the dead letter topic: the message's own, and who gave up on what, when and why. Those of an
 * earlier letter, of which the message is a replay, are replaced.
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

/** Headers of a letter that does not hold all of its message: that stands where `dlq-topic` and the next say. */
export function omitting(parts: string, headers: IHeaders): IHeaders {
  const reason = `${headerText(headers, 'dlq-reason')} (too large to keep: ${parts})`;
  return { ...headers, 'dlq-reason': reason, 'dlq-omitted': parts };
}

/** Headers of the record that says that a letter of the same partition needs nothing more. */
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
 * Headers that kafkajs read, as it can write them. One without a value, which it reads as null, gets an empty one. Before
 * one that is named as something every object has, such as `constructor`, it puts that, which is left out.
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

/** The text of a header; undefined when it is missing. Where it came more than once, the last counts. */
export function headerText(headers: IHeaders, name: string): string | undefined {
  return [headers[name]].flat().at(-1)?.toString();
}

/** The text without anything that moves the cursor: line ends, and what else a terminal would obey. */
export const oneLine = (text: string) => text.replace(/[\s\p{Cc}\p{Cf}]+/gu, ' ').trim();
