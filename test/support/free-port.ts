import { randomInt } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { assertFree } from '../../apps/sandbox/src/ports';

/** Below the ephemeral ports: the system may give one of those to another process before it is listened on. */
const [FIRST, END] = [20_000, 32_000];

/** A free port on 127.0.0.1 that nobody else gets in this run of the tests. */
export async function freePort(): Promise<number> {
  for (let attempt = 1; ; attempt += 1) {
    const port = randomInt(FIRST, END);
    try {
      writeFileSync(path.join(tmpdir(), `port-${port}`), '', { flag: 'wx' }); // the directory is the run's own
      await assertFree({ value: port });
      return port;
    } catch (error) {
      if (attempt === 100) throw error;
    }
  }
}
