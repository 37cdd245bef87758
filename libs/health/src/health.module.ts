import { Global, Module } from '@nestjs/common';
import { TerminusModule } from '@nestjs/terminus';
import { makeGaugeProvider } from '@willsoto/nestjs-prometheus';
import { HealthChecks } from './health-checks';
import { HealthController } from './health.controller';

@Global()
@Module({
  imports: [TerminusModule.forRoot({ logger: false })],
  controllers: [HealthController],
  providers: [
    HealthChecks,
    makeGaugeProvider({
      name: 'dependency_up',
      help: 'Whether the last readiness probe found the dependency up: 1 or 0',
      labelNames: ['dependency'],
    }),
  ],
  exports: [HealthChecks],
})
export class HealthModule {}
