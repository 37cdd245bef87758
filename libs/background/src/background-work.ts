import { setTimeout as delay } from 'node:timers/promises';
import type { BeforeApplicationShutdown, OnApplicationBootstrap, OnApplicationShutdown } from '@nestjs/common';

/** Work that an application does on its own from its start to its shutdown, such as a loop. */
export abstract class BackgroundWork
  implements OnApplicationBootstrap, BeforeApplicationShutdown, OnApplicationShutdown
{
  protected readonly stop = new AbortController();
  protected running: Promise<void> | undefined;

  /** Runs until `stop` is aborted, and handles its own failures: a rejection would end the process. */
  protected abstract run(): Promise<void>;

  onApplicationBootstrap(): void {
    this.running = this.run();
  }

  beforeApplicationShutdown(): void {
    this.stop.abort();
  }

  /** Waits until `run` has finished. The database is closed after this. */
  async onApplicationShutdown(): Promise<void> {
    await this.running;
  }

  /** Waits, at most until `stop` is aborted. */
  protected async pause(ms: number): Promise<void> {
    await delay(ms, undefined, { signal: this.stop.signal }).catch(() => undefined);
  }
}
