import { Module } from '@nestjs/common';
import { APP_GUARD } from '@nestjs/core';
import { makeCounterProvider } from '@willsoto/nestjs-prometheus';
import { AuditActionGuard } from './audit-action.guard';
import { AuditTrail } from './audit-trail';
import { RefusalLog } from './refusal-log';

/**
 * Records who did what, and what was refused to whom. Import it before the modules whose guards refuse requests. It is
 * not global, so that it shuts down before the database does.
 */
@Module({
  providers: [
    AuditTrail,
    RefusalLog,
    { provide: APP_GUARD, useClass: AuditActionGuard },
    makeCounterProvider({
      name: 'audit_refusals_dropped_total',
      help: 'Refused calls that were counted but not written to the audit trail one by one',
    }),
  ],
  exports: [AuditTrail, RefusalLog],
})
export class AuditModule {}
