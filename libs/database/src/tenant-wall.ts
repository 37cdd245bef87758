import { ENDS_CONDITION, FOLLOWS_TABLE, SET_OPERATIONS, type Sql, statementsOf } from './sql-statements';

/** Texts that are generated can be many. */
const MAX_TEXTS = 1_000;

/** The numbers of the parameters that are to be the tenant, or why the text is refused whatever its values are. */
type Judgement = readonly number[] | string;

/**
 * Refuses statements that could reach another tenant's rows, should a store ever forget its `WHERE`. Each mention of a
 * table in `tables` has to be narrowed in its own (sub)statement, with `WHERE … AND tenant_id = $n` or, for rows that are
 * inserted, with `$n` in the place of `tenant_id`; and that parameter has to be the caller's tenant. What it cannot follow
 * it refuses: an `OR` or a `CASE` beside `tenant_id` is put in parentheses, `IN` and `ANY` are not for tenants. It guards
 * against mistakes, not against malice: it does not see into views and functions.
 */
export class TenantWall {
  private readonly judgements = new Map<string, Judgement>();
  private readonly tables: ReadonlySet<string>;

  /** @param tables every table that has a column `tenant_id`, in lower case */
  constructor(tables: readonly string[]) {
    this.tables = new Set(tables);
  }

  /** @returns why the statement must not be sent for this tenant; undefined when it may */
  refusalOf(tenantId: string, text: string, values: readonly unknown[]): string | undefined {
    const judgement = this.judgementOf(text);
    if (typeof judgement === 'string') return judgement;
    const isOwn = judgement.every((number) => values[number - 1] === tenantId);
    return isOwn ? undefined : "names another tenant than the caller's";
  }

  /** Judged once: afterwards a text costs a look-up. */
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
      const inserted = this.isInserted(statement);
      const others = this.mentionsIn(statement);
      const narrowing = conditionsOn(statement.slice(0, placeOf(statement, 'conflict')));
      const isNarrowed = (name: string) =>
        narrowing.some(({ of }) => of === name || (of === '' && others.length === 1));
      // One name twice: a second query, of which the conditions here say nothing.
      const areNarrowed = new Set(others).size === others.length && others.every(isNarrowed);
      const mayInsert = inserted ? insertedTenants(statement) : [];
      const mayOverwrite = inserted ? overwrittenTenants(statement) : [];
      if (!mayInsert || !mayOverwrite || !areNarrowed) {
        const open = others.filter((name) => !isNarrowed(name));
        const where = areNarrowed ? ['what it inserts'] : open.length > 0 ? open : others; // or one name twice
        // What stands in a literal may be a person's.
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

  private isInserted(statement: Sql): boolean {
    return statement.some((part, place) => this.tables.has(part as string) && isTarget(statement, place));
  }

  /** By what name the statement knows each table that it reads or changes: its alias, where it has one. */
  private mentionsIn(statement: Sql): string[] {
    return statement.flatMap((part, place) => {
      if (typeof part !== 'string') return this.mentionsIn(part);
      // Code in a literal: EXECUTE, or the body of DO.
      if (part.startsWith("'")) return [...this.tables].some((table) => part.includes(table)) ? [part] : [];
      const isMention = this.tables.has(part) && statement[place + 1] !== '.' && !isTarget(statement, place);
      return isMention ? [nameAt(statement, place)] : [];
    });
  }
}

/** Whether the place is that of the table in `INSERT INTO table` or `INSERT INTO schema.table`. */
function isTarget(statement: Sql, place: number): boolean {
  return statement[0] === 'insert' && (place === 2 || (place === 4 && statement[3] === '.'));
}

/** Any word that cannot follow a table is taken for its alias. */
function nameAt(statement: Sql, place: number): string {
  const next = statement[place + 1] === 'as' ? statement[place + 2] : statement[place + 1];
  return typeof next === 'string' && !FOLLOWS_TABLE.has(next) ? next : String(statement[place]);
}

/** Each of the queries that `UNION` and its like put together has tables, and a `WHERE`, of its own. */
function queriesOf(statement: Sql): Sql[] {
  return statement[0] === 'select' ? split(statement, (part) => SET_OPERATIONS.has(part as string)) : [statement];
}

interface Narrowing {
  /** What is narrowed: a table or its alias; nothing where there is but one. */
  readonly of: string;
  /** Of the parameter that it is narrowed to. */
  readonly number: number;
}

/** What the `WHERE` of a statement narrows to one `tenant_id`. */
function conditionsOn(statement: Sql): Narrowing[] {
  const start = placeOf(statement, 'where') + 1;
  const end = statement.findIndex((part, place) => place >= start && ENDS_CONDITION.has(part as string));
  return conjunctsOf(statement.slice(start, end === -1 ? statement.length : end));
}

/** Those that hold for every row that the condition lets through. */
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

/** The parameters that stand in the place of `tenant_id` in each row; undefined when another thing does in one. */
function insertedTenants(statement: Sql): number[] | undefined {
  const place = statement.findIndex((part) => typeof part !== 'string');
  const columns = statement[place];
  if (columns === undefined || typeof columns === 'string') return undefined;
  const column = listOf(columns).findIndex((name) => name.length === 1 && name[0] === 'tenant_id');
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
  const numbers = rows.map((row) => parameterIn(listOf(row)[column] ?? []));
  return numbers.length > 0 && numbers.every((number) => number !== undefined) ? numbers : undefined;
}

/**
 * The parameters to which the rows are narrowed that `ON CONFLICT DO UPDATE` finds there; undefined when they can be
 * anybody's. A key that `tenant_id` is part of finds the rows of the tenant that is inserted.
 */
function overwrittenTenants(statement: Sql): number[] | undefined {
  const conflict = placeOf(statement, 'conflict');
  const action = statement.findIndex((part, place) => part === 'update' && statement[place - 1] === 'do');
  if (action === -1) return [];
  const key = statement[conflict + 1];
  if (typeof key === 'object' && listOf(key).some(([name, ...more]) => name === 'tenant_id' && !more.length)) return [];
  // `excluded` is what was to be inserted.
  const narrowing = conditionsOn(statement.slice(action)).filter(({ of }) => of !== 'excluded');
  return narrowing.length > 0 ? narrowing.map(({ number }) => number) : undefined;
}

function movesRows(statement: Sql): boolean {
  const start = statement.indexOf('set');
  if (start === -1) return false;
  const assigned = statement.slice(start);
  const end = Math.min(placeOf(assigned, 'where'), placeOf(assigned, 'returning'));
  return assigned
    .slice(0, end)
    .some((part) => part === 'tenant_id' || (typeof part !== 'string' && part.includes('tenant_id')));
}

/** Where the word is, or else the end. */
function placeOf(statement: Sql, word: string): number {
  const place = statement.indexOf(word);
  return place === -1 ? statement.length : place;
}

/** The number of `$n` or `$n::type`, where the expression is nothing else. */
function parameterIn([first, cast, type, ...more]: Sql): number | undefined {
  const isAlone = cast === undefined || (cast === '::' && type !== undefined && more.length === 0);
  return isAlone && typeof first === 'string' && first.startsWith('$') ? Number(first.slice(1)) : undefined;
}

function listOf(parts: Sql): Sql[] {
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
