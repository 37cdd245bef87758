import { Client, type ClientConfig, DatabaseError } from 'pg';
import { isReadOnly, isUnavailable } from './database-errors';
import { closeAtOnce } from './end-connection';

/** SQLSTATE sqlclient_unable_to_establish_sqlconnection. */
const CANNOT_CONNECT = '08001';
/** Messages of node-postgres for statements that it did not send because the connection is known to be lost. */
const NOT_SENT = /is not queryable$|^Client was closed/;

type Connected = ((error: Error) => void) | ((error: null, client: Client) => void);

/**
 * A connection that closes itself as soon as it is useless, so that the pool opens a new one, perhaps to a healthy
 * server. By itself node-postgres returns a connection to the pool after a query timeout, still waiting for the answer,
 * where it blocks the next callers. It also keeps connections to a former primary that is now a standby.
 *
 * Every failure to connect (TLS, DNS, permissions, files) counts as an unavailable server. No listener for `error` is
 * needed: the current statement, or else the next one, rejects when the connection is lost.
 */
export class FailFastClient extends Client {
  private lostBy: Error | undefined;

  constructor(config?: ClientConfig) {
    super(config);
    this.on('error', (error) => (this.lostBy ??= error)); // without a listener Node would end the process
  }

  override connect(): Promise<Client>;
  override connect(callback: Connected): void;
  override connect(callback?: Connected): Promise<Client> | void {
    const connected = super.connect().catch((error: unknown) => {
      throw cannotConnect(error);
    });
    if (!callback) return connected;
    const tell = callback as (error: unknown, client?: Client) => void;
    connected.then((client) => tell(null, client), tell);
  }

  override query(...args: unknown[]): never {
    const result = (super.query as (...args: unknown[]) => unknown).apply(this, args);
    if (result instanceof Promise) {
      result.catch((error: unknown) => {
        if (isReadOnly(error)) this.giveUp();
        if (!isUnavailable(error) || error instanceof DatabaseError) return;
        if (NOT_SENT.test((error as Error).message)) {
          (error as Error).cause ??= this.lostBy; // it happened while nobody waited for an answer
          return;
        }
        this.giveUp();
        this.answerIsLost?.(error as Error);
      });
    }
    return result as never;
  }

  /** `end` marks it as ended at once, so that the pool does not hand it out again. */
  private giveUp(): void {
    void this.end();
    closeAtOnce(this);
  }

  /** Called if it is unknown, and will remain so, whether the server executed a statement. */
  protected answerIsLost?(cause: Error): void;
}

function cannotConnect(cause: unknown): Error {
  const reason = cause instanceof Error ? cause.message : String(cause);
  return Object.assign(new Error(`The database cannot be reached: ${reason}`, { cause }), { code: CANNOT_CONNECT });
}
