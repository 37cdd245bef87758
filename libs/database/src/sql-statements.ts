/** A statement as tokens, with parentheses as nested lists: as much of PostgreSQL's grammar as is needed here. */
export type Sql = (string | Sql)[];

/** Comments, string literals, quoted names, words and parameters, `::`, any other character. */
const TOKEN = /--[^\n]*|\/\*[\s\S]*?\*\/|'(?:[^']|'')*'|"(?:[^"]|"")*"|\$?[\w$]+|::|\S/g;

const words = (text: string) => text.split(' ');

const BEGINS_STATEMENT = new Set(words('with select table insert update delete merge'));
export const SET_OPERATIONS = new Set(words('union intersect except'));
export const ENDS_CONDITION = new Set([
  ...SET_OPERATIONS,
  ...words('group having window order limit offset fetch for on returning ;'),
]);
/** Words that can follow a table name without an alias. */
export const FOLLOWS_TABLE = new Set([
  ...ENDS_CONDITION,
  ...words(', from where set using natural cross inner left right full join tablesample default values skip nowait'),
]);
/** Words that the tenant wall treats as keywords, unless they are quoted. */
const GRAMMAR = new Set([...BEGINS_STATEMENT, ...FOLLOWS_TABLE, ...words('and or case as do conflict excluded')]);

/**
 * The statement in a text and those within it (in `WITH`, in subselects), each without the others. Words are in lower
 * case and quoted names are unquoted, unless that would make them keywords. Literals keep their quotes; comments are
 * dropped.
 */
export function statementsOf(text: string): Sql[] {
  const statements: Sql[] = [];
  const open: Sql[] = [[]];
  const close = () => {
    const group = open.pop() ?? [];
    if (open.length === 0 || BEGINS_STATEMENT.has(group[0] as string)) statements.push(group);
    else open.at(-1)?.push(group);
  };
  for (const [token] of text.matchAll(TOKEN)) {
    if (token === '(') open.push([]);
    else if (token === ')' && open.length > 1) close();
    else if (token.startsWith('"')) open.at(-1)?.push(GRAMMAR.has(token.slice(1, -1)) ? token : token.slice(1, -1));
    else if (!token.startsWith('--') && !token.startsWith('/*')) open.at(-1)?.push(token.toLowerCase());
  }
  while (open.length > 0) close();
  return statements.map(withoutCommonTables);
}

/** Removes `WITH` and the names of its statements, which are split off already. */
function withoutCommonTables(statement: Sql): Sql {
  if (statement[0] !== 'with') return statement;
  const start = statement.findIndex((part, place) => place > 0 && BEGINS_STATEMENT.has(part as string));
  return start === -1 ? statement : statement.slice(start);
}
