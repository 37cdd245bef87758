import { Module } from '@nestjs/common';
import { AuditModule } from '@platform/audit';
import { PagingModule } from '@platform/paging';
import { AuditEventsController } from './audit-events.controller';

/** Serves the audit trail to clients. Other modules write to it through `@platform/audit`. */
@Module({ imports: [AuditModule, PagingModule], controllers: [AuditEventsController] })
export class AuditEventsModule {}
