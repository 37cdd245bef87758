import { Logger } from '@nestjs/common';
import type { Config } from '@platform/config';
import { HealthChecks } from '@platform/health';
import { Pool } from 'pg';
import { JobRunner } from './job-runner';
import { RunnerPresence } from './runner-presence';

jest.mock('graphile-worker', () => ({
  Logger: class {},
  runTaskList: () => {
    throw new Error('A task that it does not take');
  },
}));

const none = {} as never;

describe('JobRunner', () => {
  const config = {
    database: { directUrl: 'postgres://127.0.0.1:1/orders' },
    roles: ['worker'] as Config['roles'],
  } as Config;

  beforeEach(() => void jest.spyOn(Pool.prototype, 'query').mockImplementation(() => undefined));
  afterEach(() => jest.restoreAllMocks());

  it('lets go of its sign of life when Graphile Worker does not begin', async () => {
    const release = jest.fn();
    jest.spyOn(RunnerPresence, 'connect').mockResolvedValue({ release } as never);
    const runner = new JobRunner(config, none, new HealthChecks(), none, none, none);
    const warn = jest.spyOn(Logger.prototype, 'warn').mockImplementation(() => runner.beforeApplicationShutdown());
    runner.onApplicationBootstrap();
    await runner.onApplicationShutdown();
    expect(warn).toHaveBeenCalledTimes(1);
    expect(release).toHaveBeenCalledTimes(1);
  });

  it('waits longer each time that Graphile Worker does not begin, and not at the same time as others', async () => {
    jest.spyOn(RunnerPresence, 'connect').mockRejectedValue(new Error('away'));
    jest.spyOn(Math, 'random').mockReturnValue(0.5);
    jest.spyOn(Logger.prototype, 'warn').mockImplementation();
    const runner = new JobRunner(config, none, new HealthChecks(), none, none, none);
    const pauses: number[] = [];
    const pause = async (ms: number) => {
      if (pauses.push(ms) === 7) runner.beforeApplicationShutdown();
    };
    Object.assign(runner, { pause, maintain: async () => undefined });
    runner.onApplicationBootstrap();
    await runner.onApplicationShutdown();
    expect(pauses).toEqual([150, 300, 600, 1_200, 2_400, 3_750, 3_750]);
  });
});

describe('JobRunner.handle', () => {
  it('refuses a second handler of a task, which would take the place of the first', () => {
    const runner = new JobRunner(none, none, none, none, none, none);
    runner.handle('refund', () => Promise.resolve());
    runner.handle('remind', () => Promise.resolve());
    expect(() => runner.handle('refund', () => Promise.resolve())).toThrow('The task refund has a handler already');
  });
});
