import { minorDigits } from './currencies';

const LETTERS = [...'ABCDEFGHIJKLMNOPQRSTUVWXYZ'];
const EVERY_CODE = LETTERS.flatMap((a) => LETTERS.flatMap((b) => LETTERS.map((c) => a + b + c)));
const codesWith = (digits: number) => EVERY_CODE.filter((code) => minorDigits(code) === digits);

describe('minorDigits', () => {
  it.each([
    ['USD', 2],
    ['EUR', 2],
    ['CHF', 2],
    ['JPY', 0],
    ['KWD', 3],
  ])('returns the decimals of %s: %i', (currency, digits) => {
    expect(minorDigits(currency)).toBe(digits);
  });

  it.each([
    ['IQD', 3],
    ['AFN', 2],
    ['ALL', 2],
    ['IRR', 2],
    ['LAK', 2],
    ['LBP', 2],
    ['MGA', 2],
    ['MMK', 2],
    ['SYP', 2],
    ['YER', 2],
  ])('follows ISO 4217 where CLDR differs: %s has %i', (currency, digits) => {
    expect(minorDigits(currency)).toBe(digits);
  });

  it('gives no decimals to the currencies without a minor unit, and to no others', () => {
    expect(codesWith(0).join(' ')).toBe('BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF');
  });

  it('gives three decimals to the currencies in thousandths, and to no others', () => {
    expect(codesWith(3).join(' ')).toBe('BHD IQD JOD KWD LYD OMR TND');
  });

  it('gives four decimals to units of account, and to no others', () => {
    expect(codesWith(4).join(' ')).toBe('CLF UYW');
  });

  it('gives two decimals to all others', () => {
    expect(codesWith(2)).toHaveLength(139);
    expect(EVERY_CODE.filter((code) => minorDigits(code) !== undefined)).toHaveLength(17 + 139 + 7 + 2);
  });

  it.each([
    ['nothing', ''],
    ['lower case', 'usd'],
    ['white space', 'USD '],
    ['two codes', 'USD EUR'],
    ['a number code', '840'],
    ['no currency', 'XXX'],
    ['a test code', 'XTS'],
    ['a metal', 'XAU'],
    ['special drawing rights', 'XDR'],
    ['a cryptocurrency', 'BTC'],
    ['a currency withdrawn in 2002', 'DEM'],
    ['a currency withdrawn in 2026', 'BGN'],
    ['a property of every object', 'constructor'],
    ['the prototype', '__proto__'],
  ])('returns undefined for %s', (_, currency) => {
    expect(minorDigits(currency)).toBeUndefined();
  });
});
