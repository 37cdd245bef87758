import { Inject, Injectable, Logger } from '@nestjs/common';
import { CONFIG, type Config } from '@platform/config';
import { ServiceError } from '@platform/errors';
import { createRemoteJWKSet, type JWTVerifyGetKey } from 'jose';
import { z } from 'zod';

const FETCH_TIMEOUT_MS = 2_000;
/** After this age the keys are fetched again, behind the requests that go on using the ones at hand. */
const REFRESH_AFTER_MS = 10 * 60_000;
/** An unknown key id, or a provider that failed, causes at most one fetch in this time. */
const COOLDOWN_MS = 30_000;
/** How soon discovery is tried again while no keys are known at all. */
const DISCOVERY_RETRY_MS = 1_000;

const discoveryDocument = z.object({ issuer: z.string(), jwks_uri: z.url() });

type RemoteKeys = ReturnType<typeof createRemoteJWKSet>;

/** The provider's public keys, found by OpenID Connect Discovery 1.0 and kept while the provider is away. */
@Injectable()
export class SigningKeys {
  private readonly logger = new Logger(SigningKeys.name);
  private keys: RemoteKeys | undefined;
  private loading: Promise<RemoteKeys> | undefined;
  private failedAt = -Infinity;
  private refreshedAt = 0;

  constructor(@Inject(CONFIG) private readonly config: Config) {}

  /**
   * The key that a token's header asks for, as `jose` calls it.
   * @throws {ServiceError} SERVICE_UNAVAILABLE while no key was ever learnt
   */
  readonly get: JWTVerifyGetKey = async (header, token) => {
    const keys = this.keys ?? (await this.load());
    this.refreshWhenOld(keys);
    return keys(header, token);
  };

  private load(): Promise<RemoteKeys> {
    if (performance.now() - this.failedAt < DISCOVERY_RETRY_MS) {
      throw ServiceError.unavailable(new Error('The identity provider did not answer a moment ago'));
    }
    this.loading ??= this.discover()
      .catch((error: unknown) => {
        this.failedAt = performance.now();
        throw ServiceError.unavailable(error);
      })
      .finally(() => {
        this.loading = undefined;
      });
    return this.loading;
  }

  private async discover(): Promise<RemoteKeys> {
    const { issuer } = this.config.oidc;
    const response = await fetch(`${issuer.replace(/\/$/, '')}/.well-known/openid-configuration`, {
      signal: AbortSignal.timeout(FETCH_TIMEOUT_MS),
      redirect: 'error',
    });
    if (!response.ok) throw new Error(`Discovery answered ${response.status}`);
    const document = discoveryDocument.parse(await response.json());
    if (document.issuer !== issuer) throw new Error(`Discovery names another issuer than OIDC_ISSUER`);
    const keys = createRemoteJWKSet(new URL(document.jwks_uri), {
      timeoutDuration: FETCH_TIMEOUT_MS,
      cooldownDuration: COOLDOWN_MS,
      cacheMaxAge: Infinity,
    });
    await keys.reload();
    this.refreshedAt = performance.now();
    this.keys = keys;
    return keys;
  }

  private refreshWhenOld(keys: RemoteKeys): void {
    if (performance.now() - this.refreshedAt < REFRESH_AFTER_MS) return;
    this.refreshedAt = performance.now() - REFRESH_AFTER_MS + COOLDOWN_MS;
    keys.reload().then(
      () => {
        this.refreshedAt = performance.now();
      },
      (error: unknown) => this.logger.warn({ err: error }, 'The identity provider did not give its keys anew'),
    );
  }
}
