import { Inject, Injectable } from '@nestjs/common';
import { CONFIG, type Config } from '@platform/config';
import { Database, type Transaction } from '@platform/database';
import { ServiceError } from '@platform/errors';
import { keyDigest } from './fingerprint';

/** What a key is unique within. Never the token: it changes while a client retries. */
export interface IdempotencyScope {
  readonly tenantId: string;
  readonly clientId: string;
  /** The route as method and template, for example `POST /v1/orders`. */
  readonly route: string;
}

/** A request with its key, and how it is to be answered from now on. */
export interface KeyedRequest {
  readonly scope: IdempotencyScope;
  readonly key: string;
  /** See `fingerprint`. */
  readonly fingerprint: Buffer;
  /** The body. What is in it, ids too, is made before the change itself. */
  readonly answer: string;
}

const MAX_ROUNDS = 3;

interface Remembered {
  readonly is_same: boolean;
  readonly response_body: string;
  readonly expired: boolean;
}

/**
 * What was answered to which key. An answer is written in the transaction of the change which it answers, so that neither
 * exists without the other.
 */
@Injectable()
export class IdempotencyStore {
  constructor(
    private readonly database: Database,
    @Inject(CONFIG) private readonly config: Config,
  ) {}

  /**
   * Makes the change that a request asks for, once for its key, in one transaction with its answer.
   * @param work may be run again, after a serialization failure or a deadlock: it must do nothing outside of `tx` that
   *   cannot be done twice
   * @returns the first answer to the key, byte for byte, or undefined when the change was made now
   * @throws {ServiceError} IDEMPOTENCY_KEY_REUSED when the key came with another request
   */
  once(request: KeyedRequest, work: (tx: Transaction) => Promise<void>): Promise<string | undefined> {
    const { scope, key, fingerprint, answer } = request;
    const values = [scope.tenantId, scope.clientId, scope.route, keyDigest(key), fingerprint, answer];
    return this.unlessTaken(request, () =>
      this.database.inTransaction(async (tx) => {
        // Waits for another that has the same key under way.
        const [free] = await tx.query<object[]>(
          `INSERT INTO idempotency_keys (tenant_id, client_id, route, key, fingerprint, response_body)
           VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING RETURNING true`,
          values,
        );
        if (free) await work(tx);
        return free !== undefined;
      }),
    );
  }

  /**
   * For a change that writes its key itself, within its own statement.
   * @param take makes the change and resolves with true, or does nothing because the key is taken
   * @returns as {@link once}
   * @throws {ServiceError} IDEMPOTENCY_KEY_REUSED
   */
  async unlessTaken(
    { scope, key, fingerprint }: Omit<KeyedRequest, 'answer'>,
    take: () => Promise<boolean>,
  ): Promise<string | undefined> {
    // A key can vanish before it is read, when its time is up. Then it is free, and can be taken.
    for (let round = 1; round <= MAX_ROUNDS; round += 1) {
      if (await take()) return undefined;
      const answer = await this.recall(scope, key, fingerprint);
      if (answer !== undefined) return answer;
    }
    throw ServiceError.unavailable(new Error('An idempotency key was taken and freed again and again'));
  }

  /** @returns undefined when the key is free: it was never used, or its time was up and it is now forgotten */
  private async recall(scope: IdempotencyScope, key: string, fingerprint: Buffer): Promise<string | undefined> {
    const identity = [scope.tenantId, scope.clientId, scope.route, keyDigest(key)];
    return this.database.run(async (manager) => {
      const [remembered] = await manager.query<Remembered[]>(
        `SELECT fingerprint = $6 AS is_same, response_body, created_at < now() - make_interval(hours => $5) AS expired
         FROM idempotency_keys WHERE tenant_id = $1 AND client_id = $2 AND route = $3 AND key = $4`,
        [...identity, this.config.idempotencyTtlHours, fingerprint],
      );
      if (!remembered) return undefined;
      if (remembered.expired) {
        await manager.query(
          `DELETE FROM idempotency_keys WHERE tenant_id = $1 AND client_id = $2 AND route = $3 AND key = $4
           AND created_at < now() - make_interval(hours => $5)`,
          [...identity, this.config.idempotencyTtlHours],
        );
        return undefined;
      }
      if (!remembered.is_same) {
        throw new ServiceError('IDEMPOTENCY_KEY_REUSED', 'The idempotency key was used for another request');
      }
      return remembered.response_body;
    });
  }
}
