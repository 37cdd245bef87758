import { Module } from '@nestjs/common';
import { JobsModule } from '@platform/jobs';
import { RefundPayer } from './refund-payer';
import { RefundStore } from './refund-store';
import { RefundsConsumer } from './refunds.consumer';

@Module({ imports: [JobsModule], controllers: [RefundsConsumer], providers: [RefundPayer, RefundStore] })
export class RefundsWorkerModule {}
