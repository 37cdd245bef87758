/** Addresses of the servers that `global-setup.ts` started, for the jest workers. */
export interface Pieces {
  /** URL of the PostgreSQL server's database `postgres`, as the superuser. */
  readonly postgresUrl: string;
  /** The same with the service's login. */
  readonly servicePostgresUrl: string;
  readonly issuer: string;
  readonly paymentApi: string;
  /** Undefined if no broker can be started here. */
  readonly kafkaBrokers: string | undefined;
  /** Whether a test can start a broker of its own, to stop and kill it: that takes the JVM. */
  readonly canStartBroker: boolean;
}

const VARIABLE = 'TEST_PIECES';

export function publishPieces(pieces: Pieces): void {
  process.env[VARIABLE] = JSON.stringify(pieces);
}

export function pieces(): Pieces {
  return JSON.parse(process.env[VARIABLE] ?? '') as Pieces;
}

/** Database with every migration made, from which each test file gets its own. */
export const TEMPLATE = 'orders_template';
