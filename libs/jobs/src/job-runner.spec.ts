import { JobRunner } from './job-runner';

describe('JobRunner.handle', () => {
  it('refuses a second handler of a task, which would take the place of the first', () => {
    const none = {} as never;
    const runner = new JobRunner(none, none, none, none, none, none);
    runner.handle('refund', () => Promise.resolve());
    runner.handle('remind', () => Promise.resolve());
    expect(() => runner.handle('refund', () => Promise.resolve())).toThrow('The task refund has a handler already');
  });
});
