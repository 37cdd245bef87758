/** How a value is sent: as the receive function of its type in PostgreSQL reads it. */
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

/** From here PostgreSQL counts microseconds. */
const EPOCH = Date.UTC(2000);

const FORMATS = {
  text: TEXT,
  /** A decimal string, and sent as one. */
  numeric: TEXT,
  /** JSON as a string, as for `jsonb`. */
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
 * Rows as parameters of a statement: an array for each column, in PostgreSQL's binary format. It reads them in less time
 * than rows in JSON, the less the more there are.
 */
export class RowArrays<C extends Columns> {
  /** @param columns with the type of each */
  constructor(protected readonly columns: C) {}

  /** How many parameters they are. */
  get width(): number {
    return Object.keys(this.columns).length;
  }

  /**
   * SQL that gives the rows. How many there are it hides from the planner: for few a plan of their own would seem cheap
   * enough to be made anew at each execution.
   * @param first number of the first of its parameters
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

/** As https://github.com/postgres/postgres/blob/REL_18_STABLE/src/backend/utils/adt/arrayfuncs.c reads it (`array_recv`). */
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
  array.writeInt32BE(1, 16); // index of the first
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
