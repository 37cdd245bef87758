import { JobRunner } from './job-runner';

describe('JobRunner.handle', () => {
  it('refuses a second handler of a task, which would take the place of the first', () => {
    const runner = new JobRunner({} as never, {} as never, {} as never, {} as never, {} as never);
    runner.handle('refund', () => Promise.resolve());
    runner.handle('remind', () => Promise.resolve());
    expect(() => runner.handle('refund', () => Promise.resolve())).toThrow('The task refund has a handler already');
  });
});
