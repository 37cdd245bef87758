import { Module } from '@nestjs/common';
import { makeCounterProvider, makeGaugeProvider } from '@willsoto/nestjs-prometheus';
import { RetentionService } from './retention.service';

@Module({
  providers: [
    RetentionService,
    makeCounterProvider({
      name: 'retention_deleted_total',
      help: 'Rows deleted because their time was up',
      labelNames: ['table'],
    }),
    makeGaugeProvider({
      name: 'retention_last_success_timestamp_seconds',
      help: 'When this process last found nothing more to delete',
    }),
  ],
})
export class RetentionModule {}
