import { setTimeout as delay } from 'node:timers/promises';
import { Injectable } from '@nestjs/common';
import { ServiceError } from '@platform/errors';
import type { Pool } from 'pg';
import { DataSource, type EntityManager } from 'typeorm';
import { isRetryable, isUnavailable } from './database-errors';
import { assertNoOpenTransaction, transactionScope } from './open-transaction';

const ATTEMPTS = 5;

declare const OPEN: unique symbol;

/** TypeORM's manager in an open transaction. Only {@link Database.inTransaction} provides one. */
export type Transaction = EntityManager & { readonly [OPEN]: true };

/** The pool of node-postgres in TypeORM; undefined while the data source is not connected. */
export function poolOf(dataSource: DataSource): Pool | undefined {
  return (dataSource.driver as unknown as { master: Pool | undefined }).master;
}

/** Access to PostgreSQL. If the database is unavailable, all methods throw `SERVICE_UNAVAILABLE`. */
@Injectable()
export class Database {
  constructor(private readonly dataSource: DataSource) {}

  /**
   * Runs `work` outside a transaction: each statement commits by itself.
   * @throws {Error} within a transaction: if all connections of the pool waited for a second one, none would ever be
   *   free
   */
  async run<T>(work: (manager: EntityManager) => Promise<T>): Promise<T> {
    assertNoOpenTransaction();
    try {
      return await work(this.dataSource.manager);
    } catch (error) {
      throw isUnavailable(error) ? ServiceError.unavailable(error) : error;
    }
  }

  /**
   * Runs a prepared statement, which each connection parses and plans once: for statements of nearly every request.
   * Uses the driver's pool directly, because TypeORM cannot name statements.
   * @param name identifies the text: another text needs another name
   */
  async prepared<Row extends object>(name: string, text: string, values: readonly unknown[]): Promise<Row[]> {
    return this.run(async () => {
      const pool = poolOf(this.dataSource);
      if (!pool) throw ServiceError.unavailable(new Error('The database is not connected yet, or no longer'));
      // Not `pool.query`: that would send the statement in the async context of whoever released the connection, and so
      // as another client.
      const client = await pool.connect();
      const given = [...values];
      try {
        return (await client.query<Row>({ name, text, values: given })).rows.splice(0);
      } finally {
        // The driver assigns a function literal to a property of its query. V8 creates such a closure in the old generation,
        // from where it keeps the query until the next major collection: let it not keep the values and rows as well.
        given.length = 0;
        client.release();
      }
    });
  }

  /**
   * Runs `work` in one transaction at READ COMMITTED, and all of it again after a serialization failure or a deadlock.
   * Its effects outside of `tx` must therefore be repeatable.
   * @throws {ServiceError} SERVICE_UNAVAILABLE after five such failures
   */
  async inTransaction<T>(work: (tx: Transaction) => Promise<T>): Promise<T> {
    for (let attempt = 1; ; attempt += 1) {
      try {
        const transaction = { isOpen: true };
        const start = (manager: EntityManager) =>
          manager.transaction((tx) => transactionScope.run(transaction, () => work(tx as Transaction)));
        return await this.run(start).finally(() => (transaction.isOpen = false));
      } catch (error) {
        if (!isRetryable(error)) throw error;
        if (attempt === ATTEMPTS) throw ServiceError.unavailable(error);
        await delay(Math.random() * 10 * 2 ** attempt);
      }
    }
  }
}
