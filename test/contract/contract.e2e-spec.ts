import { readFileSync } from 'node:fs';
import { api } from '../support/client';
import { startService } from '../support/service';

interface Description {
  readonly paths: Record<
    string,
    Record<string, { parameters?: { name: string; required: boolean; schema: object }[] }>
  >;
  readonly components: {
    readonly schemas: Record<
      string,
      { additionalProperties?: boolean; required?: string[]; properties: Record<string, object> }
    >;
  };
}

const PROSE = new Set(['description', 'summary', 'example']);

const nameOf = (entry: unknown) => (typeof entry === 'string' ? entry : (entry as { name?: string } | null)?.name);

/**
 * A description without its prose, and with objects in place of those lists that may grow: of names, and of things that
 * have one. The types of a value are no such list.
 */
function offersOf(value: unknown, key?: string): unknown {
  if (typeof value !== 'object' || value === null) return value;
  if (Array.isArray(value)) {
    const mayGrow = key !== 'type' && value.every((entry) => nameOf(entry) !== undefined);
    return mayGrow
      ? Object.fromEntries(value.map((entry) => [nameOf(entry), offersOf(entry)]))
      : value.map((entry) => offersOf(entry));
  }
  const entries = Object.entries(value).filter(([name]) => !PROSE.has(name));
  return Object.fromEntries(entries.map(([name, entry]) => [name, offersOf(entry, name)]));
}

/** What `description` demands of those who call an operation that `known` has. Schemas of requests alone are closed. */
function demandsOf({ paths, components }: Description, known: Description) {
  const demands: Record<string, { required: boolean; schema: unknown }> = {};
  for (const [path, operations] of Object.entries(known.paths))
    for (const method of Object.keys(operations))
      for (const { name, required, schema } of paths[path]?.[method]?.parameters ?? [])
        demands[`${method} ${path}: ${name}`] = { required, schema: offersOf(schema) };
  for (const [name, { additionalProperties }] of Object.entries(known.components.schemas)) {
    if (additionalProperties !== false) continue;
    const { required = [], properties = {} } = components.schemas[name] ?? {};
    for (const [property, schema] of Object.entries(properties))
      demands[`${name}.${property}`] = { required: required.includes(property), schema: offersOf(schema) };
  }
  return demands;
}

const read = (file: string) => JSON.parse(readFileSync(file, 'utf8')) as Description;

/** What the last release offered is in the files beside this one. Teams that nobody here knows build on it. */
describe('To those who have built on the last release', () => {
  const released = read('test/contract/openapi.json');
  let current: Description;

  beforeAll(async () => {
    const service = await startService();
    current = (await api(service.url)('/openapi.json')).body;
    await service.stop();
  });

  it('the API offers all that it did', () => {
    expect(offersOf(current)).toMatchObject(offersOf(released) as object);
  });

  it('events have all that they had', () => {
    expect(offersOf(read('docs/asyncapi.json'))).toMatchObject(offersOf(read('test/contract/asyncapi.json')) as object);
  });

  it('the API demands nothing new, and what it demanded is as it was', () => {
    const before = demandsOf(released, released);
    const now = Object.entries(demandsOf(current, released));
    expect(Object.fromEntries(now.filter(([name]) => name in before))).toEqual(before);
    expect(now.filter(([name, { required }]) => required && !(name in before))).toEqual([]);
  });
});
