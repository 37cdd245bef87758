import { Module } from '@nestjs/common';
import { AuditModule } from '@platform/audit';
import { PagingModule } from '@platform/paging';
import { AuditEventsController } from './audit-events.controller';

/** Reading the audit trail. It is written where things happen, by way of `@platform/audit`. */
@Module({ imports: [AuditModule, PagingModule], controllers: [AuditEventsController] })
export class AuditEventsModule {}
