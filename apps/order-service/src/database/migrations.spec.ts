import { readdirSync, readFileSync } from 'node:fs';

const DIRECTORY = `${__dirname}/migrations`;

describe('Migrations', () => {
  it.each(readdirSync(DIRECTORY))('%s builds no index in the way of those who write to the table', (file) => {
    const text = readFileSync(`${DIRECTORY}/${file}`, 'utf8');
    const madeHere = new Set(Array.from(text.matchAll(/CREATE TABLE (\w+)/g), ([, table]) => table));
    const blocking = Array.from(
      text.matchAll(/CREATE (?:UNIQUE )?INDEX\s+(?!CONCURRENTLY)[^;]*?\bON\s+(?:ONLY\s+)?(\w+)/g),
      ([, table]) => table,
    );
    expect(blocking.filter((table) => !madeHere.has(table))).toEqual([]);
    if (text.includes('buildIndex(')) expect(text).toContain('readonly transaction = false;');
  });
});
