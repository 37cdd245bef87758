import { newContext, runInContext } from '@platform/request-context';
import { auditRow } from './audit-row';

describe('auditRow', () => {
  const done = { object: 'ref_1', outcome: 'succeeded' } as const;

  it('says what the request is declared to do, and whose it is', () => {
    const principal = { tenantId: 'acme', clientId: 'orchestrator', scopes: new Set<string>() };
    runInContext({ ...newContext(), action: 'refund.create', principal }, () => {
      expect(auditRow(done)).toMatchObject({ action: 'refund.create', tenant_id: 'acme', client_id: 'orchestrator' });
    });
  });

  it('says where the request came from, and with what certificate', () => {
    const certificate = { thumbprint: 'a-thumbprint', alternativeNames: [] };
    const context = { ...newContext({ requestId: 'req-1' }), address: '10.0.0.1', certificate };
    const row = runInContext(context, () => auditRow({ outcome: 'refused', statusCode: 401 }));
    expect(row).toMatchObject({ request_id: 'req-1', address: '10.0.0.1', certificate: 'a-thumbprint' });
  });

  it.each([
    ['nothing', done],
    ['the action alone', { ...done, action: 'refund.create' }],
    ['the tenant alone', { ...done, tenantId: 'acme' }],
  ])('writes no change outside of a request of which it is told %s', (_, event) => {
    expect(() => runInContext(newContext(), () => auditRow(event))).toThrow('needs an action and a tenant');
  });

  it('writes a change outside of a request for the tenant that it is given', () => {
    const row = runInContext(newContext(), () => auditRow({ ...done, action: 'refund.create', tenantId: 'acme' }));
    expect(row).toMatchObject({ action: 'refund.create', tenant_id: 'acme', client_id: null });
  });

  it('writes refusals that are nobody’s', () => {
    expect(auditRow({ outcome: 'refused', statusCode: 401 })).toMatchObject({ action: 'unknown', tenant_id: null });
  });
});
