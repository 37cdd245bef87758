import { AsyncLocalStorage } from 'node:async_hooks';

/** The transaction of the current work. Work that outlives its transaction sees that it is no longer open. */
export const transactionScope = new AsyncLocalStorage<{ isOpen: boolean }>();

/** @throws {Error} within an open transaction (see {@link Database.run}) */
export function assertNoOpenTransaction(): void {
  if (transactionScope.getStore()?.isOpen)
    throw new Error('Within a transaction only its own `tx` reaches the database');
}
