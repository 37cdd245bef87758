import { calculateTotal, fitsCurrency, priceFaults } from './order-total';

type Item = { quantity: number; unitPrice: string };

const many = (count: number, item: Item): Item[] => Array.from({ length: count }, () => item);

describe('fitsCurrency', () => {
  it.each([
    ['129.99', 'USD', true],
    ['129', 'USD', true],
    ['0.00', 'USD', true],
    ['129.9', 'USD', false],
    ['129.990', 'USD', false],
    ['129', 'JPY', true],
    ['129.0', 'JPY', false],
    ['129.00', 'JPY', false],
    ['129', 'KWD', true],
    ['129.125', 'KWD', true],
    ['129.12', 'KWD', false],
    ['129.1250', 'KWD', false],
    ['129.125', 'IQD', true],
    ['129.1', 'XXX', false],
  ])('finds that %s in %s fits: %s', (value, currency, fits) => {
    expect(fitsCurrency(value, currency)).toBe(fits);
  });
});

describe('calculateTotal', () => {
  it('returns 25.50 for the items of the guide', () => {
    const items = [
      { sku: 'A', quantity: 2, unitPrice: '10.00' },
      { sku: 'B', quantity: 1, unitPrice: '5.50' },
    ];
    expect(calculateTotal(items, 'USD')).toBe('25.50');
  });

  it.each<[string, string, string, Item[]]>([
    ['two decimals for USD', '100.00', 'USD', [{ quantity: 4, unitPrice: '25' }]],
    ['no decimals for JPY', '3000', 'JPY', [{ quantity: 3, unitPrice: '1000' }]],
    ['three decimals for KWD', '0.375', 'KWD', [{ quantity: 3, unitPrice: '0.125' }]],
    ['three decimals for KWD, given none', '7.000', 'KWD', [{ quantity: 7, unitPrice: '1' }]],
    ['zero for what is free', '0.00', 'USD', [{ quantity: 1_000_000, unitPrice: '0.00' }]],
    ['zero for no items', '0.00', 'USD', []],
  ])('returns %s', (_, total, currency, items) => {
    expect(calculateTotal(items, currency)).toBe(total);
  });

  it.each<[string, string, Item[]]>([
    [
      '0.1 + 0.2',
      '0.30',
      [
        { quantity: 1, unitPrice: '0.10' },
        { quantity: 1, unitPrice: '0.20' },
      ],
    ],
    ['3 × 0.1', '0.30', [{ quantity: 3, unitPrice: '0.10' }]],
    ['3 × 1.1', '3.30', [{ quantity: 3, unitPrice: '1.10' }]],
    ['100 × 1.15', '115.00', [{ quantity: 100, unitPrice: '1.15' }]],
    [
      '1.1 + 2.2',
      '3.30',
      [
        { quantity: 1, unitPrice: '1.10' },
        { quantity: 1, unitPrice: '2.20' },
      ],
    ],
    ['500 lines of 0.01', '5.00', many(500, { quantity: 1, unitPrice: '0.01' })],
    ['500 lines of 0.10', '50.00', many(500, { quantity: 1, unitPrice: '0.10' })],
    [
      '250 lines of 0.01 and 250 of 0.10',
      '27.50',
      [...many(250, { quantity: 1, unitPrice: '0.01' }), ...many(250, { quantity: 1, unitPrice: '0.10' })],
    ],
    ['more than doubles can count', '90071992547409.93', [{ quantity: 1, unitPrice: '90071992547409.93' }]],
    [
      '2^53 + 1 cents',
      '90071992547409.93',
      [
        { quantity: 1, unitPrice: '90071992547409.92' },
        { quantity: 1, unitPrice: '0.01' },
      ],
    ],
    [
      'the largest order',
      '499999999999999999995000000.00',
      many(500, { quantity: 1_000_000, unitPrice: '999999999999999999.99' }),
    ],
  ])('is exact for %s', (_, total, items) => {
    expect(calculateTotal(items, 'USD')).toBe(total);
  });
});

describe('priceFaults', () => {
  const usd = (value: string) => ({ currency: 'USD', value });
  const onlyForAll = 'unitPrice must be given for every item or for none';

  it.each([
    ['no item has a price', [{ quantity: 2 }, { quantity: 1 }], usd('0.01')],
    [
      'the total is the sum',
      [
        { quantity: 2, unitPrice: '49.99' },
        { quantity: 1, unitPrice: '30.01' },
      ],
      usd('129.99'),
    ],
    ['the total is the sum without its decimals', [{ quantity: 2, unitPrice: '10.00' }], usd('20')],
    ['the prices are without decimals', [{ quantity: 2, unitPrice: '10' }], usd('20.00')],
    ['the sum is one that doubles miss', [{ quantity: 3, unitPrice: '0.10' }], usd('0.30')],
    ['everything is free', [{ quantity: 2, unitPrice: '0' }], usd('0.00')],
    ['the currency has no decimals', [{ quantity: 2, unitPrice: '150' }], { currency: 'JPY', value: '300' }],
    ['the currency has three decimals', [{ quantity: 2, unitPrice: '0.125' }], { currency: 'KWD', value: '0.250' }],
  ])('returns nothing when %s', (_, items, totalAmount) => {
    expect(priceFaults({ items, totalAmount })).toEqual([]);
  });

  it.each([
    ['a cent too much', [{ quantity: 2, unitPrice: '49.99' }], usd('99.99'), '99.98'],
    ['a cent too little', [{ quantity: 2, unitPrice: '49.99' }], usd('99.97'), '99.98'],
    ['the price of one piece only', [{ quantity: 2, unitPrice: '10.00' }], usd('10.00'), '20.00'],
    [
      'a cent that doubles do not see',
      [{ quantity: 1, unitPrice: '900719925474099.93' }],
      usd('900719925474099.92'),
      '900719925474099.93',
    ],
    ['a total of free items', [{ quantity: 1, unitPrice: '0' }], usd('1.00'), '0.00'],
    ['a total in the wrong unit', [{ quantity: 1, unitPrice: '100' }], { currency: 'JPY', value: '10000' }, '100'],
  ])('names totalAmount.value and the sum: %s', (_, items, totalAmount, sum) => {
    const message = `value must equal the sum of quantity × unitPrice, ${sum}`;
    expect(priceFaults({ items, totalAmount })).toEqual([{ field: 'totalAmount.value', message }]);
  });

  it('names every item without a price when another has one, and not the total', () => {
    const items = [{ quantity: 1 }, { quantity: 1, unitPrice: '1.00' }, { quantity: 1 }];
    expect(priceFaults({ items, totalAmount: usd('7.00') })).toEqual([
      { field: 'items[0].unitPrice', message: onlyForAll },
      { field: 'items[2].unitPrice', message: onlyForAll },
    ]);
  });

  it.each([
    ['USD', '1.5', 2],
    ['JPY', '1.00', 0],
    ['KWD', '1.00', 3],
  ])('names a price that %s does not write: %s', (currency, unitPrice, digits) => {
    const message = `unitPrice must have no decimals or exactly ${digits} for ${currency}`;
    expect(priceFaults({ items: [{ quantity: 1, unitPrice }], totalAmount: { currency, value: '1' } })).toEqual([
      { field: 'items[0].unitPrice', message },
    ]);
  });

  it('names missing and ill-fitting prices together', () => {
    const items = [{ quantity: 1, unitPrice: '1.5' }, { quantity: 1 }];
    expect(priceFaults({ items, totalAmount: usd('1.50') })).toEqual([
      { field: 'items[0].unitPrice', message: 'unitPrice must have no decimals or exactly 2 for USD' },
      { field: 'items[1].unitPrice', message: onlyForAll },
    ]);
  });
});
