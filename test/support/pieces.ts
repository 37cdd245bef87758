/** Addresses of what `global-setup.ts` started, for the workers that run the tests. */
export interface Pieces {
  /** The PostgreSQL server, by its database `postgres`. */
  readonly postgresUrl: string;
  /** The same, as the service logs in. */
  readonly servicePostgresUrl: string;
  readonly issuer: string;
  readonly paymentApi: string;
  /** Undefined only where no broker can be had. */
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
