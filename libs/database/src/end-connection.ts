import type { Client } from 'pg';

const END_TIMEOUT_MS = 2_000;

/** Ends a connection gracefully, or after 2 s without an answer by closing its socket. */
export async function endConnection(client: Client): Promise<void> {
  const timer = setTimeout(() => closeAtOnce(client), END_TIMEOUT_MS);
  await client.end().catch(() => undefined);
  clearTimeout(timer);
}

/** Closes the socket. Pending queries reject. */
export function closeAtOnce(client: Client): void {
  (client as unknown as { connection: { stream: { destroy(): void } } }).connection.stream.destroy();
}
