import { createHmac } from 'node:crypto';

/**
 * Replaces the id of an erased customer: `erased_` and 128 bits of HMAC-SHA-256 over tenant and customer, as hex. The
 * same customer always gets the same one. Without the key nobody can tell whose it is, not even by trying customer ids.
 */
export function pseudonymOf(key: string, tenantId: string, customerId: string): string {
  const mac = createHmac('sha256', key)
    .update(JSON.stringify([tenantId, customerId]))
    .digest('hex');
  return `erased_${mac.slice(0, 32)}`;
}
