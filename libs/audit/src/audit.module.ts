import { Module } from '@nestjs/common';
import { APP_GUARD } from '@nestjs/core';
import { makeCounterProvider } from '@willsoto/nestjs-prometheus';
import { AuditActionGuard } from './audit-action.guard';
import { AuditTrail } from './audit-trail';
import { RefusalLog } from './refusal-log';

/**
 * Who did what, and what they were refused. To be imported before the modules whose guards refuse. Not global, so that it
 * is shut down before the database.
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
