/** The binary format of a type, as PostgreSQL's receive function of that type reads it. */
interface Format<Value> {
  /** https://github.com/postgres/postgres/blob/REL_18_STABLE/src/include/catalog/pg_type.dat */
  readonly oid: number;
  readonly bytes: (value: Value) => number;
  readonly write: (value: Value, to: Buffer, at: number) => void;
}

const TEXT: Format<string> = {
  oid: 25,
  bytes: (value) => Buffer.byteLength(value),
  write: (value, to, at) => to.write(value, at),
};

/** The epoch of PostgreSQL's timestamps, which count microseconds. */
const EPOCH = Date.UTC(2000);

const FORMATS = {
  text: TEXT,
  /** A decimal string, sent as text. */
  numeric: TEXT,
  /** A JSON string, also for `jsonb`. */
  json: { ...TEXT, oid: 114 },
  jsonb: {
    oid: 3802,
    bytes: (value: string) => 1 + TEXT.bytes(value),
    write: (value: string, to: Buffer, at: number) => {
      to[at] = 1; // the version of the format
      TEXT.write(value, to, at + 1);
    },
  },
  bytea: {
    oid: 17,
    bytes: (value: Buffer) => value.length,
    write: (value: Buffer, to: Buffer, at: number) => value.copy(to, at),
  },
  uuid: {
    oid: 2950,
    bytes: () => 16,
    write: (value: string, to: Buffer, at: number) => to.write(value.replaceAll('-', ''), at, 'hex'),
  },
  smallint: {
    oid: 21,
    bytes: () => 2,
    write: (value: number, to: Buffer, at: number) => to.writeInt16BE(value, at),
  },
  integer: {
    oid: 23,
    bytes: () => 4,
    write: (value: number, to: Buffer, at: number) => to.writeInt32BE(value, at),
  },
  timestamptz: {
    oid: 1184,
    bytes: () => 8,
    write: (value: Date, to: Buffer, at: number) => to.writeBigInt64BE(BigInt(value.getTime() - EPOCH) * 1_000n, at),
  },
} as const satisfies Record<string, Format<never>>;

export type Columns = Readonly<Record<string, keyof typeof FORMATS>>;

export type Row<C extends Columns> = {
  readonly [Name in keyof C]: Parameters<(typeof FORMATS)[C[Name]]['write']>[0] | null;
};

/**
 * Passes rows to a statement as one array parameter for each column, in PostgreSQL's binary format. The server reads
 * them faster than rows in JSON, and the more so the more there are.
 */
export class RowArrays<C extends Columns> {
  /** @param columns PostgreSQL type by column name */
  constructor(protected readonly columns: C) {}

  /** Number of parameters, one for each column. */
  get width(): number {
    return Object.keys(this.columns).length;
  }

  /**
   * A `SELECT` that returns the rows. It hides their number from the planner: for few rows a custom plan would look
   * cheap enough to be made anew at every execution.
   * @param first number of its first parameter
   */
  select(first = 1): string {
    const arrays = Object.values(this.columns).map((type, index) => {
      return `($${first + index}::${type === 'numeric' ? 'text' : type}[])`;
    });
    const values = Object.entries(this.columns).map(([name, type], index) => `${arrays[index]}[i]::${type} AS ${name}`);
    return `SELECT ${values.join(', ')} FROM generate_series(1, (SELECT cardinality(${arrays[0]}))) AS i`;
  }

  parameters(rows: readonly Row<C>[]): Buffer[] {
    return Object.entries(this.columns).map(([name, type]) => arrayOf(FORMATS[type] as Format<unknown>, rows, name));
  }
}

/** `array_recv` reads it: https://github.com/postgres/postgres/blob/REL_18_STABLE/src/backend/utils/adt/arrayfuncs.c */
function arrayOf(format: Format<unknown>, rows: readonly Readonly<Record<string, unknown>>[], name: string): Buffer {
  let bytes = 20 + 4 * rows.length;
  const sizes: number[] = [];
  for (const { [name]: value } of rows) {
    const size = value === null ? 0 : format.bytes(value);
    bytes += size;
    sizes.push(size);
  }
  const array = Buffer.allocUnsafe(bytes);
  array.writeInt32BE(1, 0); // dimensions
  array.writeInt32BE(1, 4); // nulls are possible
  array.writeInt32BE(format.oid, 8);
  array.writeInt32BE(rows.length, 12);
  array.writeInt32BE(1, 16); // lower bound of the index
  let at = 20;
  for (let index = 0; index < rows.length; index += 1) {
    const value = rows[index]![name];
    const size = sizes[index]!;
    array.writeInt32BE(value === null ? -1 : size, at);
    at += 4;
    if (value !== null) format.write(value, array, at);
    at += size;
  }
  return array;
}
