import { currentContext } from '@platform/request-context';
import type { ClientConfig } from 'pg';
import { FailFastClient } from './fail-fast-client';
import type { TenantWall } from './tenant-wall';

type Callback = (error: Error) => void;

interface Statement {
  readonly text?: unknown;
  readonly values?: unknown;
  readonly callback?: Callback;
  readonly submit?: unknown;
}

/**
 * A connection of the pool that requests share. In the context of a client (it has a principal), its statements have to
 * pass the {@link TenantWall}; the service's own work has no principal and is not checked. Work for several clients at
 * once has to leave the context of the client that triggered it: `runInContext(newContext(…), () => …)`.
 */
export class WalledClient extends FailFastClient {
  private readonly tenantWall: TenantWall;

  constructor(config: ClientConfig & { tenantWall: TenantWall }) {
    super(config);
    this.tenantWall = config.tenantWall;
  }

  override query(...args: unknown[]): never {
    const refusal = this.refusalOf(args);
    if (refusal) return refuse(refusal, args) as never;
    return super.query(...args);
  }

  /** node-postgres accepts a text, an object with a text, or an object that submits itself (a cursor, a stream). */
  private refusalOf([statement, second]: unknown[]): Error | undefined {
    const principal = currentContext()?.principal;
    if (!principal) return undefined;
    const { text, values }: Statement = typeof statement === 'string' ? { text: statement } : (statement as object);
    // A prepared statement can be named without its text, and then it cannot be checked.
    if (typeof text !== 'string') return new Error('A statement without a text was refused');
    const given = Array.isArray(second) ? second : values;
    const reason = this.tenantWall.refusalOf(principal.tenantId, text, Array.isArray(given) ? given : []);
    return reason === undefined ? undefined : new Error(`A statement was refused that ${reason}`);
  }
}

/** Reports the refusal in the way the caller expects the result: throws, rejects or calls back. */
function refuse(refusal: Error, args: unknown[]): Promise<never> | undefined {
  const { submit, callback } = args[0] as Statement;
  if (submit !== undefined) throw refusal;
  const waiting = args.find((arg): arg is Callback => typeof arg === 'function') ?? callback;
  if (!waiting) return Promise.reject(refusal);
  process.nextTick(waiting, refusal);
  return undefined;
}
