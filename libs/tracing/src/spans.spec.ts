import { errorTypeOf } from './spans';

describe('errorTypeOf', () => {
  it.each<[unknown, string]>([
    [Object.assign(new Error(), { code: 'ECONNRESET' }), 'ECONNRESET'],
    [Object.assign(new Error(), { code: 7 }), 'Error'],
    [new TypeError(), 'TypeError'],
    ['text', 'string'],
    [null, 'object'],
    [undefined, 'undefined'],
  ])('of %p is %s', (thrown, type) => {
    expect(errorTypeOf(thrown)).toBe(type);
  });
});
