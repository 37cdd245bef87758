import { NestFactory } from '@nestjs/core';
import type { Response } from 'express';
import { HealthChecks } from './health-checks';
import { HealthController } from './health.controller';
import { HealthModule } from './health.module';

describe('HealthController', () => {
  afterEach(() => jest.restoreAllMocks());

  it('waits for a dependency for no longer than a second, which is less than Kubernetes waits', async () => {
    const app = await NestFactory.createApplicationContext(HealthModule, { logger: false });
    app.get(HealthChecks).required.set('database', () => new Promise(() => undefined));
    const patience = jest.spyOn(AbortSignal, 'timeout').mockReturnValue(AbortSignal.abort());
    const answer = await app.get(HealthController).ready({ status: jest.fn() } as unknown as Response);
    expect(answer).toMatchObject({ error: { database: { status: 'down' } } });
    expect(patience.mock.calls).toEqual([[1_000]]);
    await app.close();
  });

  it('is not ready from the first moment of a shutdown, whenever its dependencies were asked', async () => {
    const app = await NestFactory.createApplicationContext(HealthModule, { logger: false });
    const checks = app.get(HealthChecks);
    const answer = Promise.withResolvers<void>();
    checks.required.set('database', () => answer.promise);
    const status = jest.fn();
    const probe = () => app.get(HealthController).ready({ status } as unknown as Response);
    const before = probe();
    checks.drain();
    const after = probe();
    answer.resolve();
    const expected = { error: { process: { status: 'down', message: 'shutting down' } } };
    expect(await Promise.all([before, after])).toMatchObject([expected, expected]);
    expect(status.mock.calls).toEqual([[503], [503]]);
    await app.close();
  });
});
