import { Inject, Injectable } from '@nestjs/common';
import { CONFIG, type Config } from '@platform/config';
import { Database } from '@platform/database';
import { ServiceError } from '@platform/errors';
import { keyDigest } from './fingerprint';

/** What a key is unique within. Never the token: it changes while a client retries. */
export interface IdempotencyScope {
  readonly tenantId: string;
  readonly clientId: string;
  /** The route as method and template, for example `POST /v1/orders`. */
  readonly route: string;
}

interface Remembered {
  readonly is_same: boolean;
  readonly response_body: string;
  readonly expired: boolean;
}

/**
 * Reads the answers that were remembered. They are written by the statement that makes the change which they answer,
 * so that neither exists without the other.
 */
@Injectable()
export class IdempotencyStore {
  constructor(
    private readonly database: Database,
    @Inject(CONFIG) private readonly config: Config,
  ) {}

  /**
   * The first answer to this key, byte for byte.
   * @returns undefined when the key is free: it was never used, or its time was up and it is now forgotten
   * @throws {ServiceError} IDEMPOTENCY_KEY_REUSED when the key came with another request
   */
  async recall(scope: IdempotencyScope, key: string, fingerprint: Buffer): Promise<string | undefined> {
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
