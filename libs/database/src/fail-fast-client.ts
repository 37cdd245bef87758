import { Client } from 'pg';
import { closeAtOnce } from './end-connection';

/**
 * A pooled connection that does not outlive a query timeout. node-postgres gives the caller an error when the server
 * does not answer in time and then returns the connection, still waiting, to the pool, where it makes the next
 * callers wait too. Here it is closed, so that the pool opens a new one, perhaps to a server that is there.
 */
export class FailFastClient extends Client {
  override query(...args: unknown[]): never {
    const result = (super.query as (...args: unknown[]) => unknown).apply(this, args);
    if (result instanceof Promise) {
      result.catch((error: unknown) => {
        if (error instanceof Error && error.message === 'Query read timeout') closeAtOnce(this);
      });
    }
    return result as never;
  }
}
