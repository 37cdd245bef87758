import { Client, type ClientConfig, DatabaseError } from 'pg';
import { isReadOnly, isUnavailable } from './database-errors';
import { closeAtOnce } from './end-connection';

/** SQLSTATE sqlclient_unable_to_establish_sqlconnection. */
const CANNOT_CONNECT = '08001';
/** What node-postgres says of statements that it has not sent, on a connection that is known to be lost. */
const NOT_SENT = /is not queryable$|^Client was closed/;

type Connected = ((error: Error) => void) | ((error: null, client: Client) => void);

/**
 * A connection that closes itself once it is of no use, so that its pool opens a new one, perhaps to a server that is
 * there. node-postgres gives the caller an error when the server does not answer in time, and then returns the connection,
 * still waiting, to the pool, where it makes the next callers wait too. It also keeps one to a primary that has become a
 * standby.
 *
 * Whatever keeps it from being made (TLS, names, rights, files) counts as a server that is away. Its end is heard of by the
 * statement under way or the next one, at whatever moment it comes: nobody needs to listen for `error`.
 */
export class FailFastClient extends Client {
  constructor(config?: ClientConfig) {
    super(config);
    this.on('error', () => undefined); // without a listener Node would end the process
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
        if (!isUnavailable(error) || error instanceof DatabaseError || NOT_SENT.test((error as Error).message)) return;
        this.giveUp();
        this.answerIsLost?.(error as Error);
      });
    }
    return result as never;
  }

  /** Ended as well as closed, because that its pool sees at once, and gives it to nobody else. */
  private giveUp(): void {
    void this.end();
    closeAtOnce(this);
  }

  /** Called where it is not known, and will not be, whether the server has done what it was told. */
  protected answerIsLost?(cause: Error): void;
}

function cannotConnect(cause: unknown): Error {
  const reason = cause instanceof Error ? cause.message : String(cause);
  return Object.assign(new Error(`The database cannot be reached: ${reason}`, { cause }), { code: CANNOT_CONNECT });
}
