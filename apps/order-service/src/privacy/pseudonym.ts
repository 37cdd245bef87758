import { createHmac } from 'node:crypto';

/**
 * What stands in the place of a customer who was erased: 128 bits of HMAC-SHA-256 over tenant and customer, as hex. The
 * same customer always has the same one; without the key nobody can tell whose it is, nor find out by trying.
 */
export function pseudonymOf(key: string, tenantId: string, customerId: string): string {
  const mac = createHmac('sha256', key)
    .update(JSON.stringify([tenantId, customerId]))
    .digest('hex');
  return `erased_${mac.slice(0, 32)}`;
}
