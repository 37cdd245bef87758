import { setTimeout as delay } from 'node:timers/promises';
import { destination } from 'pino';

/** Limit for lines that standard output has not taken. Further lines are lost: requests do not wait for logs. */
const MAX_WAITING_BYTES = 8 * 1024 * 1024;

// `minLength` must be set for `flush` to have an effect; no line is shorter.
const output = destination({ dest: 1, sync: false, minLength: 1, maxLength: MAX_WAITING_BYTES });

/** Lines of this turn of the event loop, joined because each write makes the output measure all that is queued. */
let lines = '';

function passOn(): void {
  if (lines !== '') output.write(lines);
  lines = '';
}

/** Standard output, asynchronously. Lines of one turn of the event loop, or during one write, go out together. */
export const logDestination = {
  write(line: string): void {
    if (lines === '') setImmediate(passOn);
    lines += line;
  },
};

// For an exit without `flushLogs`. Lines may be interleaved with a write in progress that does not fit into the pipe.
// Before the output is open it is empty, and `flushSync` throws.
process.on('exit', () => {
  try {
    passOn();
    output.flushSync();
  } catch {
    // too late to report
  }
});

/**
 * Resolves once everything logged is written, or after a second.
 * @returns false after a second: nobody reads standard output, and `process.exit` would wait for that for ever
 */
export async function flushLogs(): Promise<boolean> {
  passOn();
  const written = new Promise<true>((resolve) => output.flush(() => resolve(true)));
  return Promise.race([written, delay(1_000, false, { ref: false })]);
}
