import { setTimeout as delay } from 'node:timers/promises';
import { Injectable } from '@nestjs/common';
import { ServiceError } from '@platform/errors';
import type { Pool } from 'pg';
import { DataSource, type EntityManager } from 'typeorm';
import { isRetryable, isUnavailable } from './database-errors';
import { refuseWithinTransaction, transactionScope } from './open-transaction';

const ATTEMPTS = 5;

declare const OPEN: unique symbol;

/** TypeORM's manager in a transaction that is open, which {@link Database.inTransaction} alone gives. */
export type Transaction = EntityManager & { readonly [OPEN]: true };

/** The way to PostgreSQL. A database that is away is `SERVICE_UNAVAILABLE` here, so that nobody else needs to know. */
@Injectable()
export class Database {
  constructor(private readonly dataSource: DataSource) {}

  /**
   * Runs `work` outside a transaction: each statement is its own.
   * @throws {Error} within a transaction: were all connections of the pool to wait for a second one, all would wait in vain
   */
  async run<T>(work: (manager: EntityManager) => Promise<T>): Promise<T> {
    refuseWithinTransaction();
    try {
      return await work(this.dataSource.manager);
    } catch (error) {
      throw isUnavailable(error) ? ServiceError.unavailable(error) : error;
    }
  }

  /**
   * Runs a statement that each connection parses and plans once: for those that nearly every request needs. TypeORM
   * cannot name statements, so it goes to the pool of its driver.
   * @param name stands for the text: another text needs another name
   */
  async prepared<Row extends object>(name: string, text: string, values: readonly unknown[]): Promise<Row[]> {
    return this.run(async () => {
      const { master } = this.dataSource.driver as unknown as { master: Pool | undefined };
      if (!master) throw ServiceError.unavailable(new Error('There are no connections yet, or no longer'));
      // Awaited, and not left to the pool's own `query`: that sends the statement in the context of whoever gave the
      // connection back, and so as another client.
      const client = await master.connect();
      try {
        return (await client.query<Row>({ name, text, values: [...values] })).rows;
      } finally {
        client.release();
      }
    });
  }

  /**
   * Runs `work` in one transaction at READ COMMITTED, and again, whole, after a serialization failure or a deadlock.
   * `work` must therefore do nothing outside of `tx` that cannot be done twice.
   * @throws {ServiceError} SERVICE_UNAVAILABLE when it failed so five times: others are in the way, and later may not be
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
