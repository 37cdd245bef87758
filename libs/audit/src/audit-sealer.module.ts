import { Module } from '@nestjs/common';
import { makeCounterProvider, makeGaugeProvider } from '@willsoto/nestjs-prometheus';
import { AuditSealer } from './audit-sealer';

/** Seals the audit trail. To be imported for one role only; its processes take turns. */
@Module({
  providers: [
    AuditSealer,
    makeGaugeProvider({ name: 'audit_sealed_block', help: 'Number of the newest block of the audit trail' }),
    makeCounterProvider({
      name: 'audit_cuts_total',
      help: 'How often the newest known block of the audit trail was gone',
    }),
    makeGaugeProvider({ name: 'audit_unsealed_events', help: 'Positions of the audit trail that no block covers yet' }),
  ],
})
export class AuditSealerModule {}
