import { AsyncLocalStorage } from 'node:async_hooks';
import { Inject, Injectable, Logger, type OnApplicationBootstrap, type OnApplicationShutdown } from '@nestjs/common';
import { CONFIG, type Config } from '@platform/config';
import { ServiceError } from '@platform/errors';
import { InjectMetric } from '@willsoto/nestjs-prometheus';
import { errors, type JWSHeaderParameters } from 'jose';
import type { Counter } from 'prom-client';
import { fetchJwks } from './fetch-jwks';
import { VerificationKey } from './verification-key';

/** For discovery and keys together. Longer than a request waits: while known keys suffice, nobody waits for a fetch. */
const FETCH_TIMEOUT_MS = 5_000;
/** How long a request waits for a fetch, so that it is answered within 2 s. */
const MAX_WAIT_MS = 1_500;
/** How many requests may wait for a fetch: more would crowd out those with a known key while the provider hangs. */
const MAX_WAITING = 128;
/** How often keys are fetched, and so how long a revoked key may still be accepted. */
const REFRESH_MS = 5 * 60_000;
/** Unknown key ids cause at most one fetch in this time, however many come and whether or not the provider answers. */
const COOLDOWN_MS = 10_000;
/** Pause after a failed fetch: the first while there are no usable keys, the second while there are. */
const RETRY_SOON_MS = 1_000;
const RETRY_MS = 30_000;

/** The provider's public keys: refreshed in the background, and kept for a while when the provider is unavailable. */
@Injectable()
export class SigningKeys implements OnApplicationBootstrap, OnApplicationShutdown {
  private readonly logger = new Logger(SigningKeys.name);
  /** Runs a fetch outside the context of the request that caused it, because it serves all. */
  private readonly outside = AsyncLocalStorage.snapshot();
  private keys: readonly VerificationKey[] = [];
  private fetchedAt = -Infinity;
  private fetching: Promise<void> | undefined;
  /** What is reported about the provider: in `/health/ready`, in the log, and as the cause of refused calls. */
  private lastError: string | undefined = 'was not asked yet';
  /** The last warning, until keys come again. */
  private warned: string | undefined;
  /** When unknown key ids last caused a fetch. */
  private cooldownStart = -Infinity;
  private waiting = 0;
  private delayedFetch: NodeJS.Timeout | undefined;
  private nextFetch: NodeJS.Timeout | undefined;
  private readonly shutdown = new AbortController();

  constructor(
    @Inject(CONFIG) private readonly config: Config,
    @InjectMetric('jwks_fetches_total') private readonly fetches: Counter<'outcome'>,
  ) {
    // Exported as 0 first: `increase()` misses the first success of a series that begins at 1, and an alert with it.
    for (const outcome of ['success', 'failure']) fetches.inc({ outcome }, 0);
  }

  /** Fetches in advance, so that neither the start nor the first request waits for the provider. */
  onApplicationBootstrap(): void {
    void this.fetch();
  }

  onApplicationShutdown(): void {
    this.shutdown.abort();
    clearTimeout(this.nextFetch);
    clearTimeout(this.delayedFetch);
  }

  /** False if keys were never fetched, or last so long ago that one may have been revoked without our knowing. */
  get areFresh(): boolean {
    return this.freshForMs > 0;
  }

  /**
   * The keys that may have signed a token with this header; several only if it has no `kid`. An unknown key id triggers
   * a fetch, so that a key is accepted as soon as it is published.
   * @throws {ServiceError} SERVICE_UNAVAILABLE if there are no fresh keys, or a fetch takes too long
   * @throws {errors.JWKSNoMatchingKey} if no key matches, or it cannot be known because the last fetch failed or was a
   *   moment ago
   */
  async find(header: JWSHeaderParameters): Promise<readonly VerificationKey[]> {
    const deadline = performance.now() + MAX_WAIT_MS;
    if (!this.areFresh) await this.waitForFetch(deadline);
    for (;;) {
      if (!this.areFresh) throw ServiceError.unavailable(new Error(`The identity provider ${this.lastError}`));
      const found = this.keys.filter((key) => key.fits(header));
      if (found.length > 0) return found;
      // Why this is a loop: a fetch that had begun before may have been answered before the key was published.
      if (!this.fetching) {
        const waitMs = this.cooldownStart + COOLDOWN_MS - performance.now();
        if (waitMs > 0) {
          this.fetchAfterCooldown(waitMs);
          throw new errors.JWKSNoMatchingKey();
        }
        this.fetchAndCoolDown();
      }
      await this.waitForFetch(deadline);
    }
  }

  /** Plans one fetch for when the cooldown ends, so that key ids that came during it are known then. */
  private fetchAfterCooldown(waitMs: number): void {
    this.delayedFetch ??= setTimeout(() => this.fetchAndCoolDown(), waitMs).unref();
  }

  /** Fetches because of unknown key ids, and starts the cooldown anew. One fetch serves all who wait for it. */
  private fetchAndCoolDown(): void {
    clearTimeout(this.delayedFetch);
    this.delayedFetch = undefined;
    this.cooldownStart = performance.now();
    void this.fetch();
  }

  /** @throws {Error} if the last fetch failed, or none has ended yet */
  assertAnswered(): void {
    if (this.lastError !== undefined) throw new Error(this.lastError);
  }

  private get freshForMs(): number {
    return this.fetchedAt + this.config.oidc.jwksStaleMaxMs - performance.now();
  }

  /** Resolves when the current fetch has ended, successfully or not; at once if there is none. */
  private async waitForFetch(deadline: number): Promise<void> {
    if (this.waiting >= MAX_WAITING)
      throw ServiceError.unavailable(new Error('Too many calls wait for the keys of the identity provider already'));
    let timer: NodeJS.Timeout | undefined;
    const tooLong = new Promise<never>((_, reject) => {
      const giveUp = () => reject(ServiceError.unavailable(new Error('The identity provider is slow to answer')));
      timer = setTimeout(giveUp, deadline - performance.now());
    });
    this.waiting += 1;
    try {
      await Promise.race([this.fetching, tooLong]);
    } finally {
      this.waiting -= 1;
      clearTimeout(timer);
    }
  }

  /** Joins the current fetch or starts one. Never rejects: on failure the known keys stay in use. */
  private fetch(): Promise<void> {
    clearTimeout(this.nextFetch);
    this.fetching ??= this.outside(() => this.fetchAndSchedule());
    return this.fetching;
  }

  private async fetchAndSchedule(): Promise<void> {
    const pauseMs = await this.replaceKeys().then(
      () => this.succeeded(),
      (error: unknown) => this.failed(error),
    );
    this.fetching = undefined;
    if (!this.shutdown.signal.aborted) this.nextFetch = setTimeout(() => void this.fetch(), pauseMs).unref();
  }

  private async replaceKeys(): Promise<void> {
    const signal = AbortSignal.any([this.shutdown.signal, AbortSignal.timeout(FETCH_TIMEOUT_MS)]);
    const jwks = await fetchJwks(this.config.oidc.issuer, signal);
    const published = (await Promise.all(jwks.map((jwk) => VerificationKey.ofJwk(jwk)))).filter((key) => !!key);
    if (published.length === 0) throw new Error(`None of the ${jwks.length} published keys can verify a token`);
    // Keys that are still published stay the same objects, so that tokens verified with them stay in the cache.
    const known = new Map(this.keys.map((key) => [key.fingerprint, key]));
    const next = new Set(published.map((key) => known.get(key.fingerprint) ?? key));
    for (const key of this.keys) key.isRevoked = !next.has(key);
    this.keys = [...next];
    this.fetchedAt = performance.now();
  }

  private succeeded(): number {
    this.fetches.inc({ outcome: 'success' });
    this.lastError = undefined;
    if (this.warned !== undefined) this.logger.log('The identity provider gives its keys again');
    this.warned = undefined;
    return Math.min(REFRESH_MS, this.config.oidc.jwksStaleMaxMs / 3);
  }

  private failed(error: unknown): number {
    this.fetches.inc({ outcome: 'failure' });
    this.lastError = this.areFresh
      ? 'did not give its keys: the known ones stay in use'
      : 'gives no keys: calls with a token are answered with 503';
    if (!this.shutdown.signal.aborted) this.warn(`The identity provider ${this.lastError}`, error);
    return Math.max(RETRY_SOON_MS, Math.min(RETRY_MS, this.freshForMs));
  }

  /** Once for each state and reason: without keys the provider is asked every second. */
  private warn(message: string, error: unknown): void {
    const warned = `${message} ${String(error)}`;
    if (warned === this.warned) return;
    this.warned = warned;
    this.logger.warn({ err: error, issuer: this.config.oidc.issuer }, message);
  }
}
