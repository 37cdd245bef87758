import { randomHex } from './random-hex';

const MAX_PER_MILLISECOND = 0xfff;
const MAX_STEP_BACK_MS = 10_000;

let lastMoment = 0;
let countInMoment = 0;
/** The first two groups of an id, which encode its time. Cached, because most ids share them with the one before. */
let lastGroups = '';
let groupsMoment = Number.NaN;

/**
 * A UUIDv7 (RFC 9562 section 5.7). Greater than all that this process made before, unless the clock is set back by more
 * than 10 s. 12 bits are a counter within the millisecond (section 6.2, method 1), 62 are random. A library takes five
 * times as long, and every order needs three ids.
 */
export function newTimeId(): string {
  const now = Date.now();
  if (lastMoment - now > MAX_STEP_BACK_MS) lastMoment = 0; // the clock was ahead, and has been corrected
  countInMoment = now > lastMoment ? 0 : countInMoment + 1;
  lastMoment = Math.max(now, lastMoment);
  if (countInMoment > MAX_PER_MILLISECOND) {
    lastMoment += 1;
    countInMoment = 0;
  }
  if (lastMoment !== groupsMoment) {
    groupsMoment = lastMoment;
    lastGroups = momentGroups(lastMoment);
  }
  const count = countInMoment.toString(16).padStart(3, '0');
  const random = randomHex(16);
  const variant = '89ab'.charAt(Number.parseInt(random.charAt(0), 16) & 3);
  return `${lastGroups}-7${count}-${variant}${random.slice(1, 4)}-${random.slice(4)}`;
}

function momentGroups(moment: number): string {
  const hex = moment.toString(16).padStart(12, '0');
  return `${hex.slice(0, 8)}-${hex.slice(8)}`;
}

let lastText = '';
let textMoment = Number.NaN;

/** RFC 3339 in UTC with milliseconds. Cached: it takes Node 0.5 µs, and most calls repeat the last one's time. */
export function toTimestamp(moment: Date): string {
  const time = moment.getTime();
  if (time !== textMoment) {
    lastText = moment.toISOString();
    textMoment = time;
  }
  return lastText;
}

/** PostgreSQL's text of a `timestamptz` as RFC 3339 in UTC with milliseconds. Text that is in UTC needs no parsing. */
export function timestampOf(text: string): string {
  if (text.charAt(10) !== ' ' || !text.endsWith('+00')) return new Date(text).toISOString();
  return `${text.slice(0, 10)}T${text.slice(11, 19)}.${text.slice(20, -3).slice(0, 3).padEnd(3, '0')}Z`;
}

/** The time encoded in a UUIDv7 (RFC 9562 section 5.7): when it was made, in milliseconds. */
export function momentOf(uuid: string): Date {
  return new Date(Number.parseInt(uuid.slice(0, 8) + uuid.slice(9, 13), 16));
}

/** A lower bound for all UUIDv7s of this millisecond and later ones, so that ranges of time are ranges of ids. */
export function firstUuidOf(moment: Date): string {
  return `${momentGroups(Math.max(0, moment.getTime()))}-0000-0000-000000000000`;
}

/** Lower bound of the ids made at this instant or later. @param timestamp RFC 3339, of any precision */
export function idsFrom(timestamp: string): string {
  return firstUuidOf(nextMillisecond(timestamp, 0));
}

/** Lower bound of the ids made after this instant. @param timestamp RFC 3339, of any precision */
export function idsAfter(timestamp: string): string {
  return firstUuidOf(nextMillisecond(timestamp, 1));
}

/** Rounds an instant finer than milliseconds up to the next millisecond. Adds `step` ms to any other. */
function nextMillisecond(timestamp: string, step: 0 | 1): Date {
  const isFiner = /\.\d{3}\d*[1-9]/.test(timestamp);
  return new Date(Date.parse(timestamp) + (isFiner ? 1 : step));
}
