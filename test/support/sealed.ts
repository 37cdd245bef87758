import type { TestDatabase } from './database';
import { until } from './until';

/** Waits until every audit event is covered by a block. */
export async function untilSealed(database: TestDatabase): Promise<void> {
  await until('the seal', async () => {
    const [row] = await database.query<{ done: boolean }>(
      'SELECT (SELECT max(position) FROM audit_events) = (SELECT max(last_position) FROM audit_blocks) AS done',
    );
    return row?.done === true;
  });
}
