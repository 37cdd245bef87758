import { AsyncLocalStorage } from 'node:async_hooks';

/** What is done within a transaction, and what it leaves behind, knows whether it is still open. */
export const transactionScope = new AsyncLocalStorage<{ isOpen: boolean }>();

/** @throws {Error} within a transaction: were all connections of the pool to wait for a second one, all would wait in vain */
export function refuseWithinTransaction(): void {
  if (transactionScope.getStore()?.isOpen)
    throw new Error('Within a transaction only its own `tx` reaches the database');
}
