import { etagOf, matchesAny, matchesNone } from './etag';

describe('etagOf', () => {
  it.each([
    [1, '"1"'],
    [42, '"42"'],
  ])('returns a strong ETag of version %i', (version, etag) => {
    expect(etagOf(version)).toBe(etag);
  });
});

describe('matchesNone', () => {
  it.each([
    ['there is no header', undefined],
    ['the header is empty', ''],
    ['another version is named', '"1"'],
    ['another version is named weakly', 'W/"1"'],
    ['others are named in a list', '"1", W/"3", "22"'],
    ['the version stands without its quotes', '2'],
    ['the version is a part of the one named', '"12"'],
    ['the weakness is in lower case', 'w/"2"'],
  ])('is true when %s', (_, header) => {
    expect(matchesNone(header, '"2"')).toBe(true);
  });

  it.each([
    ['the version is named', '"2"'],
    ['the version is named weakly', 'W/"2"'],
    ['the version stands first in a list', '"2", "1"'],
    ['the version stands last in a list', '"1", "2"'],
    ['the version stands weakly in a list without blanks', '"1",W/"2","3"'],
    ['white space surrounds the version', '  "2"\t'],
    ['any version is named', '*'],
  ])('is false when %s', (_, header) => {
    expect(matchesNone(header, '"2"')).toBe(false);
  });
});

describe('matchesAny', () => {
  it.each([
    ['there is no header', undefined],
    ['the version is named', '"2"'],
    ['the version stands in a list', '"1", "2"'],
    ['white space surrounds the version', '  "2"\t'],
    ['any version will do', '*'],
  ])('is true when %s', (_, header) => {
    expect(matchesAny(header, '"2"')).toBe(true);
  });

  it.each([
    ['the header is empty', ''],
    ['another version is named', '"1"'],
    ['the version is named weakly', 'W/"2"'],
    ['the version stands without its quotes', '2'],
    ['the version is a part of the one named', '"12"'],
  ])('is false when %s', (_, header) => {
    expect(matchesAny(header, '"2"')).toBe(false);
  });
});
