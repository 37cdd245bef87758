import Big from 'big.js';
import type { ErrorDetail } from '@platform/errors';
import { minorDigits } from './currencies';

interface Priced {
  readonly items: readonly { readonly quantity: number; readonly unitPrice?: string }[];
  readonly totalAmount: { readonly currency: string; readonly value: string };
}

/** Whether a decimal string has no decimals, or exactly as many as the currency's minor unit. */
export function fitsCurrency(value: string, currency: string): boolean {
  const decimals = value.split('.')[1];
  return decimals === undefined || decimals.length === minorDigits(currency);
}

/**
 * Σ quantity × unitPrice, exact.
 * @returns a decimal string with the decimals of the currency's minor unit
 */
export function calculateTotal(items: readonly { quantity: number; unitPrice: string }[], currency: string): string {
  return items
    .reduce((sum, { quantity, unitPrice }) => sum.plus(new Big(unitPrice).times(quantity)), new Big(0))
    .toFixed(minorDigits(currency));
}

/** What is wrong with the prices of an order whose single fields are valid; empty if nothing is. */
export function priceFaults({ items, totalAmount: { currency, value } }: Priced): ErrorDetail[] {
  const priced = items.filter((item): item is typeof item & { unitPrice: string } => item.unitPrice !== undefined);
  if (priced.length === 0) return [];
  const faults = items.flatMap(({ unitPrice }, index) => {
    const field = `items[${index}].unitPrice`;
    if (unitPrice === undefined) return [{ field, message: 'unitPrice must be given for every item or for none' }];
    if (fitsCurrency(unitPrice, currency)) return [];
    return [{ field, message: `unitPrice must have no decimals or exactly ${minorDigits(currency)} for ${currency}` }];
  });
  if (faults.length > 0) return faults;
  const total = calculateTotal(priced, currency);
  if (new Big(total).eq(value)) return [];
  const message = `value must equal the sum of quantity × unitPrice, ${total}`;
  return [{ field: 'totalAmount.value', message }];
}
