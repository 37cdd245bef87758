export { type Block, blockMac } from './audit-chain';
export { type AuditFault, AuditVerifier } from './audit-verifier';
export { AUDIT_EVENTS, type AuditRow, auditRow } from './audit-row';
export { AuditModule } from './audit.module';
export { auditRefusals } from './audit-refusals.middleware';
export { RefusalLog } from './refusal-log';
export { AuditSealerModule } from './audit-sealer.module';
export { AuditTrail } from './audit-trail';
export { Audited } from './audited.decorator';
