import type { Client } from 'pg';

const GOODBYE_MS = 2_000;

/** Ends a connection for good: politely, and without waiting for a server that no longer answers. */
export async function endConnection(client: Client): Promise<void> {
  const timer = setTimeout(() => closeAtOnce(client), GOODBYE_MS);
  await client.end().catch(() => undefined);
  clearTimeout(timer);
}

/** Closes the socket; what waits for an answer on it rejects. */
export function closeAtOnce(client: Client): void {
  (client as unknown as { connection: { stream: { destroy(): void } } }).connection.stream.destroy();
}
