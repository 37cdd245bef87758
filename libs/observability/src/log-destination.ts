import { setTimeout as delay } from 'node:timers/promises';
import { destination } from 'pino';

/** Of lines that wait because nobody reads standard output. Those beyond it are lost: requests do not wait for logs. */
const MAX_WAITING_BYTES = 8 * 1024 * 1024;

// Without a least length, which no line is below, a flush of the output does nothing.
const output = destination({ dest: 1, sync: false, minLength: 1, maxLength: MAX_WAITING_BYTES });

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

// For who ends without a flush. Beside a write under way that does not fit into a pipe its lines may be torn by these.
// Before the output is open there is nothing in it, and it says so with an error.
process.on('exit', () => {
  try {
    passOn();
    output.flushSync();
  } catch {
    // nobody is left to tell
  }
});

/**
 * Resolves when all that was logged is written, or nobody reads it for a second.
 * @returns false when nobody read it. `process.exit` would then wait for that without an end.
 */
export async function flushLogs(): Promise<boolean> {
  passOn();
  const written = new Promise<true>((resolve) => output.flush(() => resolve(true)));
  return Promise.race([written, delay(1_000, false, { ref: false })]);
}
