import { Injectable } from '@nestjs/common';
import { JobRunner } from '@platform/jobs';
import { fromString, toUUID } from 'typeid-js';
import { RefundStore } from './refund-store';

@Injectable()
export class RefundPayer {
  constructor(
    private readonly store: RefundStore,
    runner: JobRunner,
  ) {
    runner.handle<{ refundId: string }>('refund', ({ refundId }) =>
      this.store.markPaid(toUUID(fromString(refundId, 'rfd'))),
    );
  }
}
