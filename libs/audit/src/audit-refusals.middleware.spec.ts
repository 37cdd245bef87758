import { EventEmitter } from 'node:events';
import { ServiceError } from '@platform/errors';
import { newContext, type RequestContext, runInContext } from '@platform/request-context';
import { auditRefusals } from './audit-refusals.middleware';
import type { AuditRow } from './audit-row';

describe('auditRefusals', () => {
  function rowsOf(refusal: ServiceError, known: Partial<RequestContext>): AuditRow[] {
    const rows: AuditRow[] = [];
    const res = new EventEmitter();
    const context = { ...newContext(), ...known };
    const log = { add: (row: AuditRow) => void rows.push(row) };
    runInContext(context, () => auditRefusals(log as never)({ params: {} } as never, res as never, () => undefined));
    res.emit('refused', refusal);
    return rows;
  }

  it('writes down who asked for a thing that is not theirs, whatever it is', () => {
    const status = jest.spyOn(ServiceError.prototype, 'status', 'get').mockReturnValue(404);
    const refusal = new ServiceError('REFUND_NOT_FOUND' as never, 'There is no such refund');
    expect(rowsOf(refusal, { action: 'refund.read' })).toMatchObject([
      { action: 'refund.read', outcome: 'refused', status_code: 404, error_code: 'REFUND_NOT_FOUND' },
    ]);
    status.mockRestore();
  });

  it.each<[string, ServiceError, Partial<RequestContext>]>([
    ['for a path without a route', new ServiceError('ROUTE_NOT_FOUND', 'There is no such route'), {}],
    ['for what is malformed', new ServiceError('MALFORMED_JSON', 'No JSON'), { action: 'refund.create' }],
  ])('writes nothing %s', (_, refusal, known) => {
    expect(rowsOf(refusal, known)).toEqual([]);
  });
});
