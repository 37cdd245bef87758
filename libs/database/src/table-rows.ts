import { type Columns, type Row, RowArrays } from './row-arrays';

/**
 * Rows of a table that tell of what other tables' statements change: inserted by the same statement or transaction, they
 * are written if the change is. Where the SQL ends, `FROM`, `WHERE` or `ON CONFLICT` can follow.
 */
export class TableRows<C extends Columns> extends RowArrays<C> {
  private readonly insertInto: string;

  /** @param columns those that are given, with the type of each; the others have their defaults */
  constructor(table: string, columns: C) {
    super(columns);
    this.insertInto = `INSERT INTO ${table} (${Object.keys(columns).join(', ')})`;
  }

  /**
   * SQL that inserts one row.
   * @param first number of the first of the parameters that {@link values} gives
   */
  insert(first = 1): string {
    const parameters = Object.values(this.columns).map((type, index) => `$${first + index}::${type}`);
    return `${this.insertInto} SELECT ${parameters.join(', ')}`;
  }

  values(row: Row<C>): unknown[] {
    return Object.keys(this.columns).map((name) => row[name]);
  }

  /**
   * SQL that inserts many rows at once, for the service's own statements: they may be those of several tenants.
   * @param first number of the first of the parameters that {@link parameters} gives
   */
  insertAll(first = 1): string {
    return `${this.insertInto} SELECT * FROM (${this.select(first)}) AS row`;
  }

  /**
   * SQL that inserts a row for each of a query, for the service's own statements: they may be those of several tenants.
   * @param columns SQL for each column
   */
  insertSelect(columns: Readonly<Record<keyof C, string>>): string {
    const values = Object.keys(this.columns).map((name) => columns[name]);
    return `${this.insertInto} SELECT ${values.join(', ')}`;
  }
}
