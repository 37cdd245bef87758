import { Inject, Injectable } from '@nestjs/common';
import { CONFIG, type Config } from '@platform/config';
import { Database, type Transaction } from '@platform/database';
import { ServiceError } from '@platform/errors';
import { keyDigest } from './fingerprint';

/** A key is unique within this scope. The access token is not part of it: it may change while a client retries. */
export interface IdempotencyScope {
  readonly tenantId: string;
  readonly clientId: string;
  /** The route as method and template, for example `POST /v1/orders`. */
  readonly route: string;
}

/** A request with its idempotency key, and the response to it and to its repetitions. */
export interface KeyedRequest {
  readonly scope: IdempotencyScope;
  readonly key: string;
  /** From `fingerprint`, of all that was asked for: parameters of the path too, since the route has only their names. */
  readonly fingerprint: Buffer;
  /** Response body. It is made before the change, so all it contains, ids too, has to be known by then. */
  readonly answer: string;
}

const MAX_ROUNDS = 3;

interface Remembered {
  readonly is_same: boolean;
  readonly response_body: string;
  readonly expired: boolean;
}

/**
 * Remembers the response to each idempotency key. A response is written in the transaction of its change, so that
 * neither exists without the other.
 */
@Injectable()
export class IdempotencyStore {
  constructor(
    private readonly database: Database,
    @Inject(CONFIG) private readonly config: Config,
  ) {}

  /**
   * Makes the requested change once per key, in one transaction with its response.
   * @param work may run again after a serialization failure or a deadlock: its effects outside of `tx` must be
   *   repeatable
   * @returns the first response to the key, byte for byte; undefined if the change was made now
   * @throws {ServiceError} IDEMPOTENCY_KEY_REUSED if the key was used for another request
   */
  once(request: KeyedRequest, work: (tx: Transaction) => Promise<void>): Promise<string | undefined> {
    const { scope, key, fingerprint, answer } = request;
    const values = [scope.tenantId, scope.clientId, scope.route, keyDigest(key), fingerprint, answer];
    return this.unlessTaken(request, () =>
      this.database.inTransaction(async (tx) => {
        // Waits for a concurrent transaction with the same key.
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
   * Like {@link once}, for a change whose own statement writes the key.
   * @param take makes the change and resolves to true, or does nothing and resolves to false if the key is taken
   */
  async unlessTaken(
    { scope, key, fingerprint }: Omit<KeyedRequest, 'answer'>,
    take: () => Promise<boolean>,
  ): Promise<string | undefined> {
    // A taken key can expire and be deleted before it is read here. Then it can be taken.
    for (let round = 1; round <= MAX_ROUNDS; round += 1) {
      if (await take()) return undefined;
      const answer = await this.recall(scope, key, fingerprint);
      if (answer !== undefined) return answer;
    }
    throw ServiceError.unavailable(new Error('An idempotency key was taken and freed again and again'));
  }

  /** @returns undefined if the key is free: never used, or expired and now deleted */
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
