import { setTimeout as delay } from 'node:timers/promises';
import { destination } from 'pino';

/** Of lines that wait because nobody reads standard output. Those beyond it are lost: requests do not wait for logs. */
const MOST_WAITING_BYTES = 8 * 1024 * 1024;

/** Standard output, of which nobody waits: what is logged during a write goes out together with the next. */
export const logDestination = destination({ dest: 1, sync: false, maxLength: MOST_WAITING_BYTES });

// Before it is open there is nothing in it, and it says so with an error.
process.on('exit', () => {
  try {
    logDestination.flushSync();
  } catch {
    // nobody is left to tell
  }
});

/** Resolves when all that was logged is written, or nobody reads it for a second. */
export async function flushLogs(): Promise<void> {
  await Promise.race([
    new Promise((resolve) => logDestination.flush(resolve)),
    delay(1_000, undefined, { ref: false }),
  ]);
}
