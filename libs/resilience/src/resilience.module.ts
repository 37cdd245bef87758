import { type DynamicModule, Module } from '@nestjs/common';
import { CONFIG, type Config, type OutboundSettings } from '@platform/config';
import { HealthChecks } from '@platform/health';
import { Spans } from '@platform/tracing';
import { getToken, makeCounterProvider, makeGaugeProvider, makeHistogramProvider } from '@willsoto/nestjs-prometheus';
import { outboundToken } from './inject-outbound.decorator';
import { OutboundClient } from './outbound-client';
import type { OutboundMetrics } from './outbound-metrics';

/** Provides the client of a dependency, to be injected with `@InjectOutbound(name)`. */
@Module({})
export class ResilienceModule {
  /**
   * To be called once per dependency: each call creates its own connections, circuit and bulkhead.
   * @param name prefix of its metrics' names: `a-z` and `_`
   * @throws {Error} at start, if the configuration has no settings for it
   */
  static forDependency(name: string, settingsOf: (config: Config) => OutboundSettings | undefined): DynamicModule {
    const requests = `${name}_requests_total`;
    const duration = `${name}_request_duration_seconds`;
    const circuitState = 'circuit_breaker_state';
    return {
      module: ResilienceModule,
      providers: [
        makeCounterProvider({ name: requests, help: `Attempts to call ${name}`, labelNames: ['outcome'] }),
        makeHistogramProvider({
          name: duration,
          help: `Duration of the attempts to call ${name}`,
          buckets: [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 30],
        }),
        makeGaugeProvider({
          name: circuitState,
          help: 'Circuit to a dependency: 0 closed, 1 half-open, 2 open',
          labelNames: ['name'],
        }),
        {
          provide: outboundToken(name),
          inject: [CONFIG, HealthChecks, Spans, getToken(requests), getToken(duration), getToken(circuitState)],
          useFactory: (
            config: Config,
            checks: HealthChecks,
            spans: Spans,
            requests: OutboundMetrics['requests'],
            duration: OutboundMetrics['duration'],
            circuitState: OutboundMetrics['circuitState'],
          ) => {
            const settings = settingsOf(config);
            if (!settings) throw new Error(`The dependency ${name} has no settings: is its URL configured?`);
            const client = new OutboundClient(name, settings, { requests, duration, circuitState }, spans);
            checks.reported.set(`${name}-api`, async () => client.assertCircuitNotOpen());
            return client;
          },
        },
      ],
      exports: [outboundToken(name)],
    };
  }
}
