import { HealthChecks } from '@platform/health';
import { Gauge } from 'prom-client';
import { JobRunner } from './job-runner';

describe('JobRunner', () => {
  it('runs nothing where nothing is handled', async () => {
    const checks = new HealthChecks();
    const oldestAge = new Gauge({ name: 'age', help: '-', registers: [] });
    const runner = new JobRunner({} as never, {} as never, checks, {} as never, {} as never, oldestAge);
    runner.onApplicationBootstrap();
    expect([...checks.reported.keys()]).toEqual([]);
    expect((await oldestAge.get()).values).toEqual([]);
    await runner.onApplicationShutdown();
  });
});

describe('JobRunner.handle', () => {
  it('refuses a second handler of a task, which would take the place of the first', () => {
    const none = {} as never;
    const runner = new JobRunner(none, none, none, none, none, none);
    runner.handle('refund', () => Promise.resolve());
    runner.handle('remind', () => Promise.resolve());
    expect(() => runner.handle('refund', () => Promise.resolve())).toThrow('The task refund has a handler already');
  });
});
