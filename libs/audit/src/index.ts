export { type Block, blockMac } from './audit-chain';
export { type AuditFault, AuditVerifier, type AuditVerdict } from './audit-verifier';
export {
  auditArrays,
  auditInsert,
  auditInsertAll,
  auditInsertSelect,
  type AuditRow,
  auditRow,
  auditValues,
} from './audit-row';
export { AuditModule } from './audit.module';
export { auditRefusals } from './audit-refusals.middleware';
export { RefusalLog } from './refusal-log';
export { AuditSealerModule } from './audit-sealer.module';
export { type AuditFilter, AuditTrail } from './audit-trail';
export { Audited } from './audited.decorator';
