import { loadConfig } from '@platform/config';
import { retentionRules } from './retention-rules';

describe('retentionRules', () => {
  const tablesWith = (settings: Record<string, string>) => {
    const needed = {
      DATABASE_URL: 'postgres://127.0.0.1/none',
      OIDC_ISSUER: 'https://idp.example',
      OIDC_AUDIENCE: 'a',
    };
    return retentionRules(loadConfig('things', { ...needed, ...settings })).map(({ table }) => table);
  };

  it('delete neither orders nor audit events where no period is set for them', () => {
    expect(tablesWith({})).toEqual(['idempotency_keys', 'outbox', 'inbox']);
    const periods = { ORDER_RETENTION_DAYS: '365', AUDIT_RETENTION_DAYS: '365' };
    expect(tablesWith(periods)).toEqual(['idempotency_keys', 'outbox', 'inbox', 'orders', 'audit_events']);
  });
});
