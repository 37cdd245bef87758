import { alternativeNamesOf } from './presented-certificate';

describe('alternativeNamesOf', () => {
  it.each<[string, string[]]>([
    ['', []],
    ['DNS:a.example', ['a.example']],
    ['DNS:a, URI:spiffe://b/c:1, DNS:d', ['a', 'spiffe://b/c:1', 'd']],
    ['IP Address:192.0.2.1, email:a@b, DirName:CN=x, DNS:a', ['a']],
    ['DNS:"x, DNS:admin"', ['x, DNS:admin']],
    ['DNS:"a\\"b, URI:c", URI:d', ['a"b, URI:c', 'd']],
    ['email:"x, DNS:admin", DNS:a', ['a']],
    ['othername:<unsupported>, DNS:a', ['a']],
  ])('reads %s', (text, names) => expect(alternativeNamesOf(text)).toEqual(names));
});
