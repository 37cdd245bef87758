import { validateSync } from 'class-validator';
import { IsText } from './validators';

class Named {
  @IsText(3)
  name: unknown;
}

const faultsOf = (name: unknown) =>
  validateSync(Object.assign(new Named(), { name })).flatMap(({ constraints }) => Object.values(constraints ?? {}));

describe('IsText', () => {
  it.each(['a', 'abc', '\u{1f600}\u{1f600}\u{1f600}', 'a\ufe0f'])('takes %j', (name) => {
    expect(faultsOf(name)).toEqual([]);
  });

  it.each([
    [undefined, 'name must be a string'],
    [null, 'name must be a string'],
    [1, 'name must be a string'],
    [['a'], 'name must be a string'],
    ['', 'name should not be empty'],
    ['abcd', 'name must be shorter than or equal to 3 characters'],
    ['\u{1f600}\u{1f600}ab', 'name must be shorter than or equal to 3 characters'],
    ['ab\ufe0f\ufe0f', 'name must be shorter than or equal to 3 characters'],
    ['a\0', 'name must not contain NUL or lone surrogates'],
    ['a\ud800', 'name must not contain NUL or lone surrogates'],
  ])('says of %j only that it %s', (name, message) => {
    expect(faultsOf(name)).toEqual([message]);
  });
});
