import { type DynamicModule, Module } from '@nestjs/common';
import { AuditModule, AuditSealerModule } from '@platform/audit';
import { AuthModule } from '@platform/auth';
import { type Config, ConfigModule, type Needs, type Role } from '@platform/config';
import { DatabaseModule } from '@platform/database';
import { HealthModule } from '@platform/health';
import { MessagingModule } from '@platform/messaging';
import { MtlsModule } from '@platform/mtls';
import { ObservabilityModule } from '@platform/observability';
import { TracingModule } from '@platform/tracing';
import { AuditEventsModule } from './audit-events/audit-events.module';
import { schema } from './database/schema';
import { ORDERS_TOPIC } from './orders-topic';
import { OrdersModule } from './orders/orders.module';
import { ErasureWorkerModule } from './privacy/erasure-worker.module';
import { PrivacyModule } from './privacy/privacy.module';
import { RetentionModule } from './privacy/retention.module';
import { PaymentsModule } from './payments/payments.module';

/** Settings without which a module of the role cannot work; `loadConfig` refuses a configuration that lacks one. */
export const NEEDS: Needs = { api: ['PSEUDONYM_KEY'], worker: ['PAYMENT_API_URL', 'AUDIT_KEY'] };

/** The composition root: which modules each role loads. The modules of a new feature are named here and nowhere else. */
@Module({})
export class AppModule {
  static forRoot(config: Config): DynamicModule {
    const features: Record<Role, DynamicModule['imports'] & object> = {
      api: [OrdersModule, AuditEventsModule, PrivacyModule],
      worker: [
        MessagingModule.forRoot(config, ORDERS_TOPIC),
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
        AuditModule, // its guard must run before the guards that refuse requests
        MtlsModule.forRoot(config),
        AuthModule,
        DatabaseModule.forRoot(schema),
        ...config.roles.flatMap((role) => features[role]),
      ],
    };
  }
}
