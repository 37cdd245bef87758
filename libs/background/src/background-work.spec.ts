import { BackgroundWork } from './background-work';

describe('BackgroundWork', () => {
  it('ends its pause when the application shuts down, which waits for what is left to do', async () => {
    const done: string[] = [];
    class Loop extends BackgroundWork {
      protected async run(): Promise<void> {
        while (!this.stop.signal.aborted) await this.pause(3_600_000);
        for (let turn = 0; turn < 10; turn += 1) await new Promise(setImmediate);
        done.push('the last');
      }
    }
    const loop = new Loop();
    loop.onApplicationBootstrap();
    loop.beforeApplicationShutdown();
    await loop.onApplicationShutdown();
    expect(done).toEqual(['the last']);
  });
});
