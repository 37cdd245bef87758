/** Inherited properties of objects, and what Nest's pipe strips before it looks for unknown fields. */
export const isReserved = (name: string) => name in Object.prototype || name === 'prototype';

/** Joins a path in the guide's notation: `items[0].sku`. */
export function joinPath(parent: string, name: string): string {
  if (parent === '') return name;
  return /^\d+$/.test(name) ? `${parent}[${name}]` : `${parent}.${name}`;
}
