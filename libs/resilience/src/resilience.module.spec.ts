import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { Injectable, Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { type Config, ConfigModule, loadConfig } from '@platform/config';
import { HealthChecks, HealthModule } from '@platform/health';
import { TracingModule } from '@platform/tracing';
import { register } from 'prom-client';
import { InjectOutbound } from './inject-outbound.decorator';
import { OutboundClient } from './outbound-client';
import { OutboundFailure } from './outbound-failure';
import { ResilienceModule } from './resilience.module';

@Injectable()
class Caller {
  constructor(
    @InjectOutbound('first') readonly first: OutboundClient,
    @InjectOutbound('second') readonly second: OutboundClient,
  ) {}
}

@Module({
  imports: [
    ResilienceModule.forDependency('first', (config) => config.paymentApi),
    ResilienceModule.forDependency('second', (config) => config.paymentApi),
  ],
  providers: [Caller],
})
class FeatureModule {}

const REQUIRED = {
  DATABASE_URL: 'postgres://h/d',
  OIDC_ISSUER: 'https://id.example',
  OIDC_AUDIENCE: 'x',
  ROLES: 'api',
};

async function start(config: Config) {
  const imports = [ConfigModule.forRoot(config), TracingModule, HealthModule, FeatureModule];
  const root = { module: class {}, imports };
  const app = await NestFactory.createApplicationContext(root, { logger: false, abortOnError: false });
  return { app, caller: app.get(Caller, { strict: false }), checks: app.get(HealthChecks, { strict: false }) };
}

describe('ResilienceModule', () => {
  const server = createServer((req, res) => res.writeHead(req.url === '/bad' ? 500 : 200).end());
  let config: Config;

  beforeAll(async () => {
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    config = loadConfig('things', {
      ...REQUIRED,
      PAYMENT_API_URL: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
      PAYMENT_API_ATTEMPT_TIMEOUT_MS: '10000', // a busy machine may answer late
      PAYMENT_API_BREAKER_MIN_CALLS: '2',
      PAYMENT_API_BREAKER_OPEN_MS: '60000',
      PAYMENT_API_MAX_ATTEMPTS: '1',
    });
  });

  beforeEach(() => register.resetMetrics());

  afterAll(() => {
    server.closeAllConnections();
    server.close();
  });

  it('gives each dependency a client, metrics and a circuit of its own, also in a second application', async () => {
    const one = await start(config);
    await one.caller.first.request({ method: 'GET', path: '/' });
    await one.app.close();
    const two = await start(config);
    await two.caller.first.request({ method: 'GET', path: '/' });
    for (let n = 0; n < 2; n += 1) {
      const bad = two.caller.second.request({ method: 'GET', path: '/bad' });
      await expect(bad).rejects.toThrow(OutboundFailure);
    }
    const metrics = (await register.metrics()).split('\n');
    expect(metrics).toEqual(
      expect.arrayContaining([
        'first_requests_total{outcome="success"} 2',
        'first_request_duration_seconds_count 2',
        'first_request_duration_seconds_bucket{le="10"} 2',
        'second_requests_total{outcome="failed"} 2',
        'circuit_breaker_state{name="first"} 0',
        'circuit_breaker_state{name="second"} 2',
      ]),
    );
    await two.app.close();
    await expect(two.caller.first.request({ method: 'GET', path: '/' })).rejects.toMatchObject({ kind: 'aborted' });
  });

  it('reports a dependency whose circuit is open, and requires none', async () => {
    const { app, caller, checks } = await start(config);
    expect([...checks.reported.keys()]).toEqual(['first-api', 'second-api']);
    expect(checks.required.size).toBe(0);
    await expect(checks.reported.get('first-api')?.()).resolves.toBeUndefined();
    for (let n = 0; n < 2; n += 1) {
      await caller.first.request({ method: 'GET', path: '/bad' }).catch(() => undefined);
    }
    await expect(checks.reported.get('first-api')?.()).rejects.toThrow('circuit');
    await expect(checks.reported.get('second-api')?.()).resolves.toBeUndefined();
    await app.close();
  });

  it('does not start without settings, and names the dependency', async () => {
    await expect(start(loadConfig('things', REQUIRED))).rejects.toThrow('The dependency first has no settings');
  });
});
