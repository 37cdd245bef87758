import { HealthChecks } from '@platform/health';
import { JobRunner } from './job-runner';

describe('JobRunner', () => {
  it('runs nothing where nothing is handled', async () => {
    const checks = new HealthChecks();
    const runner = new JobRunner({} as never, {} as never, checks, {} as never, {} as never);
    runner.onApplicationBootstrap();
    expect([...checks.reported.keys()]).toEqual([]);
    await runner.onApplicationShutdown();
  });
});

describe('JobRunner.handle', () => {
  it('refuses a second handler of a task, which would take the place of the first', () => {
    const runner = new JobRunner({} as never, {} as never, {} as never, {} as never, {} as never);
    runner.handle('refund', () => Promise.resolve());
    runner.handle('remind', () => Promise.resolve());
    expect(() => runner.handle('refund', () => Promise.resolve())).toThrow('The task refund has a handler already');
  });
});
