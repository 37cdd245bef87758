import { setTimeout as delay } from 'node:timers/promises';
import { destination } from 'pino';

/** Of lines that wait because nobody reads standard output. Those beyond it are lost: requests do not wait for logs. */
const MOST_WAITING_BYTES = 8 * 1024 * 1024;

// Without a least length, which no line is below, a flush of the output does nothing.
const output = destination({ dest: 1, sync: false, minLength: 1, maxLength: MOST_WAITING_BYTES });

/** What was logged in this turn of the event loop. With each write the output measures all that waits anew. */
let lines = '';

function passOn(): void {
  if (lines !== '') output.write(lines);
  lines = '';
}

/** Standard output, of which nobody waits: what is logged in one turn, or during a write, goes out together. */
export const logDestination = {
  write(line: string): void {
    if (lines === '') setImmediate(passOn);
    lines += line;
  },
};

// Before it is open there is nothing in it, and it says so with an error.
process.on('exit', () => {
  try {
    passOn();
    output.flushSync();
  } catch {
    // nobody is left to tell
  }
});

/** Resolves when all that was logged is written, or nobody reads it for a second. */
export async function flushLogs(): Promise<void> {
  passOn();
  await Promise.race([new Promise((resolve) => output.flush(resolve)), delay(1_000, undefined, { ref: false })]);
}
