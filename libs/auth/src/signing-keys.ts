import { AsyncLocalStorage } from 'node:async_hooks';
import { Inject, Injectable, Logger, type OnApplicationBootstrap, type OnApplicationShutdown } from '@nestjs/common';
import { CONFIG, type Config } from '@platform/config';
import { ServiceError } from '@platform/errors';
import { InjectMetric } from '@willsoto/nestjs-prometheus';
import { errors, type JWSHeaderParameters } from 'jose';
import type { Counter } from 'prom-client';
import { fetchJwks } from './fetch-jwks';
import { VerificationKey } from './verification-key';

/** A provider may be slow as long as known keys suffice; discovery and keys together. */
const FETCH_TIMEOUT_MS = 5_000;
/** A request does not wait longer for the provider, so that it is answered within 2 s. */
const MAX_WAIT_MS = 1_500;
/** Calls that wait for a key. While the provider hangs, more would take all places from those with a known one. */
const MAX_WAITING = 128;
/** How long a revoked key may still be used. */
const REFRESH_MS = 5 * 60_000;
/** However many unknown key ids come, and whether or not the provider answers: they cause one fetch in this time. */
const COOLDOWN_MS = 10_000;
/** How soon a fetch that failed is tried again: the first without keys that may be used, the second with. */
const RETRY_SOON_MS = 1_000;
const RETRY_MS = 30_000;

/** The provider's public keys, fetched again behind the requests, and kept for a time while the provider is away. */
@Injectable()
export class SigningKeys implements OnApplicationBootstrap, OnApplicationShutdown {
  private readonly logger = new Logger(SigningKeys.name);
  /** A fetch is for all, and not of the request that caused it. */
  private readonly outside = AsyncLocalStorage.snapshot();
  private keys: readonly VerificationKey[] = [];
  private fetchedAt = -Infinity;
  private fetching: Promise<void> | undefined;
  private lastError: string | undefined = 'not asked yet';
  /** When an unknown key id last caused a fetch. */
  private askedAt = -Infinity;
  private waiting = 0;
  private nextAsk: NodeJS.Timeout | undefined;
  private nextFetch: NodeJS.Timeout | undefined;
  private readonly shutdown = new AbortController();

  constructor(
    @Inject(CONFIG) private readonly config: Config,
    @InjectMetric('jwks_fetches_total') private readonly fetches: Counter<'outcome'>,
  ) {
    // A counter that begins at 1 has no increase, and to an alert the first success would be none.
    for (const outcome of ['success', 'failure']) fetches.inc({ outcome }, 0);
  }

  /** The start does not wait for the provider, and the first request shall not either. */
  onApplicationBootstrap(): void {
    void this.fetch();
  }

  onApplicationShutdown(): void {
    this.shutdown.abort();
    clearTimeout(this.nextFetch);
    clearTimeout(this.nextAsk);
  }

  /** False when no key was ever fetched, or none for so long that a key may have been revoked unheard. */
  get areFresh(): boolean {
    return this.freshForMs > 0;
  }

  /**
   * The keys that may have signed a token with this header: several only where it has no `kid`. An unknown key id is asked
   * for at the provider, so that a key that was published a moment ago is good at once.
   * @throws {ServiceError} SERVICE_UNAVAILABLE without fresh keys, or when the provider takes too long to say whether a key
   *   is its own
   * @throws {errors.JWKSNoMatchingKey} also when the provider was asked a moment ago, or is away
   */
  async find(header: JWSHeaderParameters): Promise<readonly VerificationKey[]> {
    const deadline = performance.now() + MAX_WAIT_MS;
    if (!this.areFresh) await this.fetched(deadline);
    for (;;) {
      if (!this.areFresh) throw ServiceError.unavailable(new Error(this.lastError));
      const found = this.keys.filter((key) => key.fits(header));
      if (found.length > 0) return found;
      // A fetch that was under way already may have been answered before the key was published: hence the loop.
      if (!this.fetching) {
        const waitMs = this.askedAt + COOLDOWN_MS - performance.now();
        if (waitMs > 0) {
          this.askOnceMore(waitMs);
          throw new errors.JWKSNoMatchingKey();
        }
        this.ask();
      }
      await this.fetched(deadline);
    }
  }

  /** A key id that came too soon to be asked for is known when the time has come, if it is a key's. */
  private askOnceMore(waitMs: number): void {
    this.nextAsk ??= setTimeout(() => this.ask(), waitMs).unref();
  }

  /** Whoever comes first when the cooldown is over asks for the others too. */
  private ask(): void {
    clearTimeout(this.nextAsk);
    this.nextAsk = undefined;
    this.askedAt = performance.now();
    void this.fetch();
  }

  /** @throws {Error} when the provider did not answer the last time that it was asked */
  assertAnswered(): void {
    if (this.lastError !== undefined) throw new Error(this.lastError);
  }

  private get freshForMs(): number {
    return this.fetchedAt + this.config.oidc.jwksStaleMaxMs - performance.now();
  }

  /** Resolves when the fetch under way has ended, well or not; at once if there is none. */
  private async fetched(deadline: number): Promise<void> {
    if (this.waiting >= MAX_WAITING) throw ServiceError.unavailable(new Error('Too many wait for keys already'));
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

  /** Joins the fetch under way, or begins one. Never rejects: the keys at hand go on. */
  private fetch(): Promise<void> {
    clearTimeout(this.nextFetch);
    this.fetching ??= this.outside(() => this.fetchAndPlan());
    return this.fetching;
  }

  private async fetchAndPlan(): Promise<void> {
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
    if (published.length === 0) throw new Error('The identity provider publishes no key that verifies tokens');
    // Keys that stay are the same objects, so that tokens verified by them stay known.
    const known = new Map(this.keys.map((key) => [key.fingerprint, key]));
    const next = new Set(published.map((key) => known.get(key.fingerprint) ?? key));
    for (const key of this.keys) key.isRevoked = !next.has(key);
    this.keys = [...next];
    this.fetchedAt = performance.now();
  }

  private succeeded(): number {
    this.fetches.inc({ outcome: 'success' });
    this.lastError = undefined;
    return Math.min(REFRESH_MS, this.config.oidc.jwksStaleMaxMs / 3);
  }

  private failed(error: unknown): number {
    this.fetches.inc({ outcome: 'failure' });
    this.lastError = this.areFresh
      ? 'did not give its keys anew; those at hand go on'
      : 'has given no keys for too long: tokens cannot be verified';
    if (!this.shutdown.signal.aborted) this.logger.warn({ err: error }, 'The identity provider did not give its keys');
    return Math.max(RETRY_SOON_MS, Math.min(RETRY_MS, this.freshForMs));
  }
}
