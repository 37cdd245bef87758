import { METADATA_RULE } from './validators';

const KIB_16 = 16 * 1024;

/** Fifty numbers that PostgreSQL writes with 325 characters each, and a text to fill up. */
const smallNumbers = (bytes: number) => ({
  a: [...Array<number>(50).fill(-1.5e-321), 'x'.repeat(bytes - '{"a":[""]}'.length - 50 * (325 + ','.length))],
});
const nested = (levels: number, wrap: (child: unknown) => unknown, core: unknown) => {
  let value = core;
  for (let level = 0; level < levels; level++) value = wrap(value);
  return value;
};
const inObject = (child: unknown) => ({ a: child });
const inArray = (child: unknown) => [child];

describe('METADATA_RULE', () => {
  const shell = JSON.stringify({ a: '' }).length;

  it.each<[string, unknown]>([
    ['an empty object', {}],
    ['the example of the guide', { sourceSystem: 'order-orchestrator' }],
    ['every kind of JSON value', { a: 'x', b: -1.5e10, c: true, d: false, e: null, f: [], g: {}, h: '' }],
    ['an empty key', { '': 1 }],
    ['text beyond the basic plane', { '😀': '😀' }],
    ['5 levels of objects', nested(5, inObject, 'deepest')],
    ['5 levels of which the last are arrays', inObject(nested(4, inArray, 'deepest'))],
    ['5 levels beside one another', { a: nested(4, inObject, 1), b: nested(4, inObject, 1) }],
    ['exactly 16 KiB', { a: 'x'.repeat(KIB_16 - shell) }],
    ['exactly 16 KiB once numbers are written out', smallNumbers(KIB_16)],
    ['text that looks like such a number', { a: '1e-99999' }],
    ['exactly 16 KiB of characters of two bytes', { a: 'é'.repeat((KIB_16 - shell) / 2) }],
    ['names that objects have by birth', JSON.parse('{"__proto__": 1, "constructor": 2, "toString": 3}')],
  ])('accepts %s', (_, value) => {
    expect(METADATA_RULE.isValid(value)).toBe(true);
  });

  it.each<[string, unknown]>([
    ['nothing', undefined],
    ['null', null],
    ['an array', []],
    ['an array of objects', [{ a: 1 }]],
    ['a string', 'x'],
    ['a number', 1],
    ['a boolean', true],
    ['6 levels of objects', nested(6, inObject, 'deepest')],
    ['6 levels with nothing in the last', nested(5, inObject, {})],
    ['6 levels of which the last is an array', nested(5, inObject, [])],
    ['6 levels behind a shallow neighbour', { a: 1, b: nested(5, inObject, {}) }],
    ['more levels than the stack has room for', nested(200_000, inObject, 1)],
    ['a byte more than 16 KiB', { a: 'x'.repeat(KIB_16 - shell + 1) }],
    ['more than 16 KiB in fewer characters', { a: 'é'.repeat(KIB_16 / 2) }],
    ['more than 16 KiB in keys', { ['x'.repeat(KIB_16)]: 1 }],
    ['a byte more than 16 KiB once numbers are written out', smallNumbers(KIB_16 + 1)],
    ['more than 16 KiB once escaped', { a: '"'.repeat(KIB_16 / 2) }],
    ['NUL', { a: '\0' }],
    ['NUL deep down', { a: [{ b: 'x\0y' }] }],
    ['NUL in a key', { 'x\0': 1 }],
    ['NUL in a key deep down', { a: [{ 'x\0': 1 }] }],
    ['a lone surrogate', { a: '\ud83d' }],
    ['a lone surrogate in an array', { a: ['ok', 'x\ude00y'] }],
    ['a lone surrogate in a key', { '\ud83d': 1 }],
    ['a fault behind __proto__', JSON.parse('{"__proto__": {"a": "\\u0000"}}')],
    ['a number that JSON cannot write back', JSON.parse('{"a": 1e999}')],
    ['a negative number that JSON cannot write back', JSON.parse('{"a": [-1e999]}')],
  ])('refuses %s', (_, value) => {
    expect(METADATA_RULE.isValid(value)).toBe(false);
  });

  it('does not look at more than 16 KiB can hold', () => {
    const trap = Object.defineProperty(Array<unknown>(20_000).fill([]), 16_384, {
      get: () => {
        throw new Error('looked at');
      },
    });
    expect(METADATA_RULE.isValid({ a: trap })).toBe(false);
    expect(METADATA_RULE.isValid({ a: 'x'.repeat(KIB_16), b: trap })).toBe(false);
  });

  it('says what is asked for', () => {
    expect(`metadata ${METADATA_RULE.message}`).toBe(
      'metadata must be an object of at most 16 KiB as JSON, at most 5 levels deep, without NUL, lone surrogates or integers from 2^53',
    );
  });
});
