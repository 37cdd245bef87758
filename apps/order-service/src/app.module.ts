import { type DynamicModule, Module } from '@nestjs/common';
import { AuthModule } from '@platform/auth';
import { type Config, ConfigError, ConfigModule, type Role } from '@platform/config';
import { DatabaseModule } from '@platform/database';
import { HealthModule } from '@platform/health';
import { MessagingModule } from '@platform/messaging';
import { MtlsModule } from '@platform/mtls';
import { ObservabilityModule } from '@platform/observability';
import { schema } from './database/schema';
import { OrdersModule } from './orders/orders.module';
import { PaymentsModule } from './payments/payments.module';

/** The composition root: which modules each role loads. A new feature is named here and nowhere else. */
@Module({})
export class AppModule {
  /** @throws {ConfigError} when a role lacks what it needs; programs that have no role need less */
  static forRoot(config: Config): DynamicModule {
    if (config.roles.includes('worker') && !config.paymentApi) {
      throw new ConfigError(['PAYMENT_API_URL is required for the role worker']);
    }
    const features: Record<Role, DynamicModule['imports'] & object> = {
      api: [OrdersModule],
      worker: [MessagingModule.forRoot(config), PaymentsModule],
    };
    return {
      module: AppModule,
      imports: [
        ConfigModule.forRoot(config),
        ObservabilityModule,
        HealthModule,
        MtlsModule.forRoot(config),
        AuthModule,
        DatabaseModule.forRoot(schema),
        ...config.roles.flatMap((role) => features[role]),
      ],
    };
  }
}
