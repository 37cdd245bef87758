import { Injectable } from '@nestjs/common';
import { JobRunner } from '@platform/jobs';
import { fromString, toUUID } from 'typeid-js';
import { RefundStore } from './refund-store';

@Injectable()
export class RefundPayer {
  constructor(store: RefundStore, runner: JobRunner) {
    const pay = (refundId: string) => store.markPaid(toUUID(fromString(refundId, 'rfd')));
    runner.handle<{ refundId: string }>('refund', ({ refundId }) => pay(refundId));
  }
}
