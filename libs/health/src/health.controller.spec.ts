import { NestFactory } from '@nestjs/core';
import type { Response } from 'express';
import { HealthChecks } from './health-checks';
import { HealthController } from './health.controller';
import { HealthModule } from './health.module';

describe('HealthController', () => {
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
