import { type DynamicModule, Module } from '@nestjs/common';
import { AuditModule, AuditSealerModule } from '@platform/audit';
import { AuthModule } from '@platform/auth';
import { type Config, ConfigError, ConfigModule, type Role } from '@platform/config';
import { DatabaseModule } from '@platform/database';
import { HealthModule } from '@platform/health';
import { MessagingModule } from '@platform/messaging';
import { MtlsModule } from '@platform/mtls';
import { ObservabilityModule } from '@platform/observability';
import { TracingModule } from '@platform/tracing';
import { AuditEventsModule } from './audit-events/audit-events.module';
import { schema } from './database/schema';
import { OrdersModule } from './orders/orders.module';
import { ErasureWorkerModule } from './privacy/erasure-worker.module';
import { PrivacyModule } from './privacy/privacy.module';
import { RetentionModule } from './privacy/retention.module';
import { PaymentsModule } from './payments/payments.module';

/** The composition root: which modules each role loads. A new feature is named here and nowhere else. */
@Module({})
export class AppModule {
  /** @throws {ConfigError} when a role lacks what it needs; programs that have no role need less */
  static forRoot(config: Config): DynamicModule {
    const faults = missing(config);
    if (faults.length > 0) throw new ConfigError(faults);
    const features: Record<Role, DynamicModule['imports'] & object> = {
      api: [OrdersModule, AuditEventsModule, PrivacyModule],
      worker: [
        MessagingModule.forRoot(config),
        PaymentsModule,
        AuditSealerModule,
        RetentionModule,
        ErasureWorkerModule,
      ],
    };
    return {
      module: AppModule,
      imports: [
        ConfigModule.forRoot(config),
        ObservabilityModule,
        TracingModule,
        HealthModule,
        AuditModule, // before the modules whose guards refuse
        MtlsModule.forRoot(config),
        AuthModule,
        DatabaseModule.forRoot(schema),
        ...config.roles.flatMap((role) => features[role]),
      ],
    };
  }
}

function missing({ roles, paymentApi, auditKeys, pseudonymKey }: Config): string[] {
  const needs: [Role, string, unknown][] = [
    ['worker', 'PAYMENT_API_URL', paymentApi],
    ['worker', 'AUDIT_KEY', auditKeys],
    ['api', 'PSEUDONYM_KEY', pseudonymKey],
  ];
  return needs
    .filter(([role, , value]) => roles.includes(role) && value === undefined)
    .map(([role, name]) => `${name} is required for the role ${role}`);
}
