/** A statement in words, as far as PostgreSQL's grammar is needed here; what stands in parentheses is one part of it. */
export type Sql = (string | Sql)[];

/** A comment, a literal, a quoted name, a word or parameter, a cast, any other character. */
const TOKEN = /--[^\n]*|\/\*[\s\S]*?\*\/|'(?:[^']|'')*'|"(?:[^"]|"")*"|\$?[\w$]+|::|\S/g;

const words = (text: string) => text.split(' ');

const BEGINS_STATEMENT = new Set(words('with select insert update delete merge'));
export const SET_OPERATIONS = new Set(words('union intersect except'));
export const ENDS_CONDITION = new Set([
  ...SET_OPERATIONS,
  ...words('group having window order limit offset fetch for on returning ;'),
]);
/** What can follow the name of a table that has no alias. */
export const FOLLOWS_TABLE = new Set([
  ...ENDS_CONDITION,
  ...words(', from where set using natural cross inner left right full join tablesample default values skip nowait'),
]);
/** What is grammar to who reads statements, unless it stands in quotes. */
const GRAMMAR = new Set([...BEGINS_STATEMENT, ...FOLLOWS_TABLE, ...words('table and or case as do conflict excluded')]);

/**
 * The statement of a text and those within it, in `WITH` and in subselects, each without the others. Words are in lower
 * case and without quotes, but for names that would be grammar without; comments are left out, literals keep their quotes.
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

/** What follows `WITH`, whose statements are taken out already: it begins at the first word that begins a statement. */
function withoutCommonTables(statement: Sql): Sql {
  if (statement[0] !== 'with') return statement;
  const start = statement.findIndex((part, place) => place > 0 && BEGINS_STATEMENT.has(part as string));
  return start === -1 ? statement : statement.slice(start);
}
