import { randomBytes } from 'node:crypto';

const DRAWN_BYTES = 2_048;

let drawn = '';
let used = 0;

/**
 * Digits that nobody can guess. They are drawn in advance: the system's generator takes 1.5 µs each time, however few are
 * asked of it, and every request needs five ids.
 * @param digits at most 4,096
 */
export function randomHex(digits: number): string {
  if (used + digits > drawn.length) {
    drawn = randomBytes(DRAWN_BYTES).toString('hex');
    used = 0;
  }
  used += digits;
  return drawn.slice(used - digits, used);
}
