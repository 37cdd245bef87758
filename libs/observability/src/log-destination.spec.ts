import { spawn } from 'node:child_process';
import { text } from 'node:stream/consumers';
import { setTimeout as delay } from 'node:timers/promises';

/** More than the system holds between two processes, so that all of it is there only when somebody reads. */
const LINES = Array.from({ length: 3_000 }, (_, index) => `${index} ${'x'.repeat(1_000)}\n`);

/** A process that logs the lines, in two turns of its event loop, and then ends as it is told. */
function logAndThen(end: string) {
  const program = `
    import { setImmediate as nextTurn } from 'node:timers/promises';
    import { flushLogs, logDestination } from '${require.resolve('./log-destination')}';
    for (let index = 0; index < ${LINES.length}; index += 1) {
      if (index === 100) await nextTurn();
      logDestination.write(index + ' ' + 'x'.repeat(1_000) + '\\n');
    }
    ${end}`;
  const options = ['--no-warnings', '--input-type=module', '--eval', program];
  return spawn(process.execPath, options, { stdio: ['ignore', 'pipe', 'pipe'] });
}

describe('logDestination', () => {
  it.each([
    ['a call to exit', 'process.exit(0)'],
    ['an uncaught error', 'throw new Error("on purpose");'],
    ['a flush and a kill that leaves no time', 'if (await flushLogs()) process.kill(process.pid, "SIGKILL");'],
  ])('loses no line of a process that ends by %s, for a reader who is slow', async (_, end) => {
    const child = logAndThen(end);
    await delay(200);
    expect(await text(child.stdout)).toBe(LINES.join(''));
  });

  it('is waited for no longer than a second when nobody reads', async () => {
    const child = logAndThen(`
      const start = performance.now();
      const isWritten = await flushLogs();
      process.stderr.write(JSON.stringify([isWritten, performance.now() - start]));
      process.kill(process.pid, 'SIGKILL');`);
    const [isWritten, waited] = JSON.parse(await text(child.stderr)) as [boolean, number];
    expect(isWritten).toBe(false);
    expect(waited).toBeGreaterThan(900);
    expect(waited).toBeLessThan(10_000);
  });
});
