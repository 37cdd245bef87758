import { type Columns, type Row, RowArrays } from './row-arrays';

/**
 * SQL that inserts rows which record a change to other tables: inserted in the change's own statement or transaction,
 * they exist exactly if the change does. `FROM`, `WHERE` or `ON CONFLICT` can be appended.
 */
export class TableRows<C extends Columns> extends RowArrays<C> {
  private readonly insertInto: string;

  /** @param columns PostgreSQL type of each column that is inserted; other columns get their defaults */
  constructor(table: string, columns: C) {
    super(columns);
    this.insertInto = `INSERT INTO ${table} (${Object.keys(columns).join(', ')})`;
  }

  /**
   * SQL that inserts one row.
   * @param first number of the first of its parameters, which {@link values} gives
   */
  insert(first = 1): string {
    const parameters = Object.values(this.columns).map((type, index) => `$${first + index}::${type}`);
    return `${this.insertInto} SELECT ${parameters.join(', ')}`;
  }

  values(row: Row<C>): unknown[] {
    return Object.keys(this.columns).map((name) => row[name]);
  }

  /**
   * SQL that inserts many rows. Not for the context of a client: it may insert several tenants' rows.
   * @param first number of the first of its parameters, which {@link parameters} gives
   */
  insertAll(first = 1): string {
    return `${this.insertInto} SELECT * FROM (${this.select(first)}) AS row`;
  }

  /**
   * SQL that inserts a row for each row of a query. Not for the context of a client: it may insert several tenants'
   * rows.
   * @param columns SQL expression of each column
   */
  insertSelect(columns: Readonly<Record<keyof C, string>>): string {
    const values = Object.keys(this.columns).map((name) => columns[name]);
    return `${this.insertInto} SELECT ${values.join(', ')}`;
  }
}
