import { createHash } from 'node:crypto';
import { fingerprint, keyDigest } from './fingerprint';

const KEY = 'an-idempotency-key';

const digest = (text: string) => createHash('sha256').update(`${KEY}\n${text}`).digest();
const of = (json: string) => fingerprint(KEY, JSON.parse(json) as object);

class Money {
  constructor(
    readonly value: string,
    readonly currency: string,
  ) {}
}

describe('fingerprint', () => {
  it('returns SHA-256 of the key and the request', () => {
    expect(of('{}')).toEqual(digest('{}'));
    expect(fingerprint('another-key', {})).not.toEqual(of('{}'));
  });

  it.each([
    ['the keys sorted', '{"b": 1, "a": {"d": 2, "c": 3}}', '{"a":{"c":3,"d":2},"b":1}'],
    ['items in their order', '{"a": [3, 1, 2]}', '{"a":[3,1,2]}'],
    // RFC 8785 section 3.2.3: by UTF-16 code units, in which U+1F600 stands before U+FB33.
    [
      'the keys of RFC 8785',
      '{"\\u20ac": 1, "\\r": 2, "\\ufb33": 3, "1": 4, "\\ud83d\\ude00": 5, "\\u0080": 6, "\\u00f6": 7}',
      '{"\\r":2,"1":4,"\u0080":6,"\u00f6":7,"\u20ac":1,"\ud83d\ude00":5,"\ufb33":3}',
    ],
    // RFC 8785 section 3.2.2.
    [
      'the numbers of RFC 8785',
      '{"n": [333333333.33333329, 1E30, 4.50, 2e-3, 0.000000000000000000000000001, -0]}',
      '{"n":[333333333.3333333,1e+30,4.5,0.002,1e-27,0]}',
    ],
    [
      'text as it is',
      '{"a": "\\u20ac$\\u000f\\u000aA\'\\u0042\\u0022\\u005c\\\\\\"\\/"}',
      '{"a":"€$\\u000f\\nA\'B\\"\\\\\\\\\\"/"}',
    ],
  ])('hashes canonical JSON: %s', (_, json, canonical) => {
    expect(of(json)).toEqual(digest(canonical));
  });

  it.each([
    ['key order', '{"a":1,"b":{"c":2,"d":3}}', '{"b":{"d":3,"c":2},"a":1}'],
    ['white space', '{"a":[1,2]}', ' {\n "a" : [ 1 ,\t2 ] } '],
    ['spelling of numbers', '{"a":[1,100,0]}', '{"a":[1.0,1e2,-0]}'],
    ['escapes', '{"a":"A/é"}', '{"\\u0061":"\\u0041\\/\\u00e9"}'],
  ])('is equal whatever the %s', (_, one, other) => {
    expect(of(one)).toEqual(of(other));
  });

  it.each([
    ['a value', '{"a":1}', '{"a":2}'],
    ['the type of a value', '{"a":1}', '{"a":"1"}'],
    ['the spelling of a decimal string', '{"a":"1"}', '{"a":"1.00"}'],
    ['a key', '{"a":1}', '{"b":1}'],
    ['the case of a text', '{"a":"x"}', '{"a":"X"}'],
    ['the order of items', '{"a":[1,2]}', '{"a":[2,1]}'],
    ['the number of items', '{"a":[1]}', '{"a":[1,1]}'],
    ['the nesting', '{"a":{"b":1},"c":2}', '{"a":{"b":1,"c":2}}'],
    ['null for nothing', '{"a":null}', '{}'],
    ['an empty object for nothing', '{"a":{}}', '{}'],
    ['a key named __proto__', '{"__proto__":{"a":1}}', '{}'],
    ['the composition of a letter', '{"a":"\\u00e9"}', '{"a":"e\\u0301"}'],
  ])('differs by %s', (_, one, other) => {
    expect(of(one)).not.toEqual(of(other));
  });

  it('takes an undefined property as one that is absent', () => {
    expect(fingerprint(KEY, { a: 1, b: undefined })).toEqual(fingerprint(KEY, { a: 1 }));
  });

  it('takes an instance of a DTO as the object that it came from', () => {
    const plain = { totalAmount: { currency: 'USD', value: '1.00' } };
    expect(fingerprint(KEY, { totalAmount: new Money('1.00', 'USD') })).toEqual(fingerprint(KEY, plain));
  });
});

describe('keyDigest', () => {
  it('returns SHA-256 of the key', () => {
    expect(keyDigest('abc').toString('hex')).toBe('ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad');
  });
});
