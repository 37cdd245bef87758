import { ENDS_CONDITION, FOLLOWS_TABLE, SET_OPERATIONS, type Sql, statementsOf } from './sql-statements';

/** Limit of the cache, because generated SQL can have any number of texts. */
const MAX_TEXTS = 1_000;

/** The numbers of the parameters that must be the caller's tenant, or why the text is refused for any values. */
type Judgement = readonly number[] | string;

/**
 * Refuses statements that could reach another tenant's rows, in case a store forgets its `WHERE`. Each mention of a
 * table in `tables` has to be restricted to one tenant in its own (sub)statement: by `WHERE … AND tenant_id = $n` or,
 * for inserted rows, by `$n` as the value of `tenant_id`. That parameter has to be the caller's tenant. What it cannot
 * follow it refuses: `OR` and `CASE` beside `tenant_id` need parentheses, and `IN` and `ANY` are not accepted for
 * tenants. It guards against mistakes, not against malice: it does not see into views and functions.
 */
export class TenantWall {
  private readonly judgements = new Map<string, Judgement>();
  private readonly tables: ReadonlySet<string>;

  /** @param tables names of all tables with a column `tenant_id`, in lower case */
  constructor(tables: readonly string[]) {
    this.tables = new Set(tables);
  }

  /** @returns why the statement must not be sent for this tenant; undefined if it may */
  refusalOf(tenantId: string, text: string, values: readonly unknown[]): string | undefined {
    const judgement = this.judgementOf(text);
    if (typeof judgement === 'string') return judgement;
    const isOwn = judgement.every((number) => values[number - 1] === tenantId);
    return isOwn ? undefined : "names another tenant than the caller's";
  }

  /** Each text is analysed once; afterwards it costs a look-up. */
  private judgementOf(text: string): Judgement {
    const known = this.judgements.get(text);
    if (known !== undefined) return known;
    const judgement = this.judge(text);
    if (this.judgements.size >= MAX_TEXTS) this.judgements.clear();
    this.judgements.set(text, judgement);
    return judgement;
  }

  private judge(text: string): Judgement {
    const parameters: number[] = [];
    for (const statement of statementsOf(text).flatMap(queriesOf)) {
      const inserted = this.insertsIntoTenantTable(statement);
      const others = this.mentionsIn(statement);
      const narrowing = tenantRestrictionsIn(statement.slice(0, indexOfWord(statement, 'conflict')));
      const isNarrowed = (name: string) =>
        narrowing.some(({ of }) => of === name || (of === '' && others.length === 1));
      // The same name twice means a second query, about which these conditions say nothing.
      const areNarrowed = new Set(others).size === others.length && others.every(isNarrowed);
      const mayInsert = inserted ? insertedTenants(statement) : [];
      const mayOverwrite = inserted ? overwrittenTenants(statement) : [];
      if (!mayInsert || !mayOverwrite || !areNarrowed) {
        const open = others.filter((name) => !isNarrowed(name));
        const where = areNarrowed ? ['what it inserts'] : open.length > 0 ? open : others; // or one name twice
        // Literals may contain personal data.
        const names = where.map((name) => (name.startsWith("'") ? 'a literal' : name));
        return `reaches a table of tenants without tenant_id = $n: ${names.join(', ')}`;
      }
      if (inserted || others.length > 0) {
        if (movesRows(statement)) return 'gives rows to another tenant';
        parameters.push(...mayInsert, ...mayOverwrite, ...narrowing.map(({ number }) => number));
      }
    }
    return parameters;
  }

  private insertsIntoTenantTable(statement: Sql): boolean {
    return statement.some((part, place) => this.tables.has(part as string) && isInsertTarget(statement, place));
  }

  /** The names under which the statement reads or changes tenant tables: aliases, where there are any. */
  private mentionsIn(statement: Sql): string[] {
    return statement.flatMap((part, place) => {
      if (typeof part !== 'string') return this.mentionsIn(part);
      // A literal can contain code: `EXECUTE`, or the body of `DO`.
      if (part.startsWith("'")) return [...this.tables].some((table) => part.includes(table)) ? [part] : [];
      const isMention = this.tables.has(part) && statement[place + 1] !== '.' && !isInsertTarget(statement, place);
      return isMention ? [nameAt(statement, place)] : [];
    });
  }
}

/** Whether `place` is the position of the table in `INSERT INTO table` or `INSERT INTO schema.table`. */
function isInsertTarget(statement: Sql, place: number): boolean {
  return statement[0] === 'insert' && (place === 2 || (place === 4 && statement[3] === '.'));
}

/** The alias of the table at `place`, or else its name. Any word that cannot follow a table counts as an alias. */
function nameAt(statement: Sql, place: number): string {
  const next = statement[place + 1] === 'as' ? statement[place + 2] : statement[place + 1];
  return typeof next === 'string' && !FOLLOWS_TABLE.has(next) ? next : String(statement[place]);
}

/** Splits at `UNION` and the like: each query has its own tables and its own `WHERE`. */
function queriesOf(statement: Sql): Sql[] {
  return statement[0] === 'select' ? split(statement, (part) => SET_OPERATIONS.has(part as string)) : [statement];
}

interface Narrowing {
  /** The table or alias that is restricted; empty if the column is unqualified. */
  readonly of: string;
  /** Number of the parameter that it is restricted to. */
  readonly number: number;
}

/** The restrictions to one `tenant_id` in the statement's `WHERE`. */
function tenantRestrictionsIn(statement: Sql): Narrowing[] {
  const start = indexOfWord(statement, 'where') + 1;
  const end = statement.findIndex((part, place) => place >= start && ENDS_CONDITION.has(part as string));
  return conjunctsOf(statement.slice(start, end === -1 ? statement.length : end));
}

/** Only those that hold for every row that satisfies the condition. */
function conjunctsOf(condition: Sql): Narrowing[] {
  if (condition.includes('or') || condition.includes('case')) return [];
  return split(condition, (part) => part === 'and').flatMap((conjunct) => {
    const [first] = conjunct;
    if (typeof first === 'object') return conjunct.length === 1 ? conjunctsOf(first) : [];
    const [of, column] = conjunct[1] === '.' ? [String(first), 2] : ['', 0];
    const number = parameterIn(conjunct.slice(column + 2));
    const isNarrowing = conjunct[column] === 'tenant_id' && conjunct[column + 1] === '=' && number !== undefined;
    return isNarrowing ? [{ of, number }] : [];
  });
}

/** The parameters that are the `tenant_id` of each inserted row; undefined if one row has anything else. */
function insertedTenants(statement: Sql): number[] | undefined {
  const place = statement.findIndex((part) => typeof part !== 'string');
  const columns = statement[place];
  if (columns === undefined || typeof columns === 'string') return undefined;
  const column = splitAtCommas(columns).findIndex((name) => name.length === 1 && name[0] === 'tenant_id');
  const source = statement.slice(place + 1);
  const rows: Sql[] = [];
  if (source[0] === 'values') {
    for (const [at, part] of source.slice(1).entries()) {
      if (typeof part !== 'string' && (at === 0 || source[at] === ',')) rows.push(part);
    }
  } else if (source[0] === 'select' && !source.some((part) => part === 'union')) {
    const end = source.findIndex((part) => ['from', 'where', 'returning', 'on'].includes(part as string));
    rows.push(source.slice(1, end === -1 ? source.length : end));
  }
  const numbers = rows.map((row) => parameterIn(splitAtCommas(row)[column] ?? []));
  return numbers.length > 0 && numbers.every((number) => number !== undefined) ? numbers : undefined;
}

/**
 * The parameters that restrict the rows which `ON CONFLICT DO UPDATE` overwrites; undefined if these can be any
 * tenant's. A conflict key with `tenant_id` needs none: it finds only rows of the inserted tenant.
 */
function overwrittenTenants(statement: Sql): number[] | undefined {
  const conflict = indexOfWord(statement, 'conflict');
  const action = statement.findIndex((part, place) => part === 'update' && statement[place - 1] === 'do');
  if (action === -1) return [];
  const key = statement[conflict + 1];
  if (typeof key === 'object' && splitAtCommas(key).some(([name, ...more]) => name === 'tenant_id' && !more.length))
    return [];
  // `excluded` is the row that was to be inserted, not the existing one.
  const narrowing = tenantRestrictionsIn(statement.slice(action)).filter(({ of }) => of !== 'excluded');
  return narrowing.length > 0 ? narrowing.map(({ number }) => number) : undefined;
}

function movesRows(statement: Sql): boolean {
  const start = statement.indexOf('set');
  if (start === -1) return false;
  const assigned = statement.slice(start);
  const end = Math.min(indexOfWord(assigned, 'where'), indexOfWord(assigned, 'returning'));
  return assigned
    .slice(0, end)
    .some((part) => part === 'tenant_id' || (typeof part !== 'string' && part.includes('tenant_id')));
}

/** Index of the word, or the statement's length if it is absent. */
function indexOfWord(statement: Sql, word: string): number {
  const place = statement.indexOf(word);
  return place === -1 ? statement.length : place;
}

/** The number of `$n` or `$n::type`; undefined if the expression is anything else. */
function parameterIn([first, cast, type, ...more]: Sql): number | undefined {
  const isAlone = cast === undefined || (cast === '::' && type !== undefined && more.length === 0);
  return isAlone && typeof first === 'string' && first.startsWith('$') ? Number(first.slice(1)) : undefined;
}

function splitAtCommas(parts: Sql): Sql[] {
  return split(parts, (part) => part === ',');
}

function split(parts: Sql, isSeparator: (part: string | Sql) => boolean): Sql[] {
  const list: Sql[] = [[]];
  for (const part of parts) {
    if (isSeparator(part)) list.push([]);
    else list.at(-1)?.push(part);
  }
  return list;
}
