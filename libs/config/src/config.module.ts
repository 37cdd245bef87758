import { type DynamicModule, Module } from '@nestjs/common';
import type { Config } from './config';

/** Injection token of the {@link Config}. */
export const CONFIG = Symbol('CONFIG');

/** Makes the loaded configuration injectable everywhere. */
@Module({})
export class ConfigModule {
  static forRoot(config: Config): DynamicModule {
    return {
      module: ConfigModule,
      global: true,
      providers: [{ provide: CONFIG, useValue: config }],
      exports: [CONFIG],
    };
  }
}
