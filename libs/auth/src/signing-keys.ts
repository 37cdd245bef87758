import { Inject, Injectable, Logger, type OnApplicationBootstrap } from '@nestjs/common';
import { CONFIG, type Config } from '@platform/config';
import { ServiceError } from '@platform/errors';
import { createRemoteJWKSet, errors, type JWTVerifyGetKey } from 'jose';
import { z } from 'zod';

/** Of discovery and of the keys each, so that a request hears within 2 s that the provider is away. */
const FETCH_TIMEOUT_MS = 900;
/** After this age the keys are fetched again, behind the requests that go on using the ones at hand. */
const REFRESH_AFTER_MS = 10 * 60_000;
/** However many unknown key ids come, and whether or not the provider answers: one fetch in this time. */
const COOLDOWN_MS = 30_000;
/** How soon discovery is tried again while no keys are known at all. */
const DISCOVERY_RETRY_MS = 1_000;

const discoveryDocument = z.object({ issuer: z.string(), jwks_uri: z.url() });

type RemoteKeys = ReturnType<typeof createRemoteJWKSet>;

/** The provider's public keys, found by OpenID Connect Discovery 1.0 and kept while the provider is away. */
@Injectable()
export class SigningKeys implements OnApplicationBootstrap {
  private readonly logger = new Logger(SigningKeys.name);
  private keys: RemoteKeys | undefined;
  private loading: Promise<RemoteKeys> | undefined;
  private failedAt = -Infinity;
  private reloading: Promise<void> | undefined;
  private reloadedAt = -Infinity;
  private failure: string | undefined = 'not asked yet';

  constructor(@Inject(CONFIG) private readonly config: Config) {}

  /** The first request shall not wait for the keys. */
  onApplicationBootstrap(): void {
    this.load().catch((error: unknown) => this.logger.warn({ err: error }, 'The identity provider does not answer'));
  }

  /**
   * The key that a token's header asks for, as `jose` calls it.
   * @throws {ServiceError} SERVICE_UNAVAILABLE while no key was ever learnt
   */
  readonly get: JWTVerifyGetKey = async (header, token) => {
    const keys = this.keys ?? (await this.load());
    if (performance.now() - this.reloadedAt > REFRESH_AFTER_MS) void this.reload(keys);
    try {
      return await keys(header, token);
    } catch (error) {
      if (!(error instanceof errors.JWKSNoMatchingKey)) throw error;
      const isRecent = performance.now() - this.reloadedAt < COOLDOWN_MS;
      if (isRecent && !this.reloading) throw error;
      await this.reload(keys);
      return keys(header, token);
    }
  };

  /** @throws {Error} when the provider did not answer the last time that it was asked */
  assertAnswered(): void {
    if (this.failure !== undefined) throw new Error(this.failure);
  }

  private async load(): Promise<RemoteKeys> {
    if (performance.now() - this.failedAt < DISCOVERY_RETRY_MS) {
      throw ServiceError.unavailable(new Error('The identity provider did not answer a moment ago'));
    }
    this.loading ??= this.discover()
      .catch((error: unknown) => {
        this.failedAt = performance.now();
        this.failure = 'no keys are known: tokens cannot be verified';
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
      // When to fetch again is decided here: jose counts from the last fetch that succeeded.
      cooldownDuration: Infinity,
      cacheMaxAge: Infinity,
    });
    await keys.reload();
    this.reloadedAt = performance.now();
    this.keys = keys;
    this.failure = undefined;
    return keys;
  }

  /** Joins the fetch under way, or begins one. Never rejects: the keys at hand go on. */
  private reload(keys: RemoteKeys): Promise<void> {
    if (this.reloading) return this.reloading;
    this.reloadedAt = performance.now();
    this.reloading = keys
      .reload()
      .then(() => {
        this.failure = undefined;
      })
      .catch((error: unknown) => {
        this.failure = 'did not give its keys anew; those at hand go on';
        this.logger.warn({ err: error }, 'The identity provider did not give its keys anew');
      })
      .finally(() => {
        this.reloading = undefined;
      });
    return this.reloading;
  }
}
