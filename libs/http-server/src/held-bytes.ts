import { Logger } from '@nestjs/common';

/** What one client can make us hold is a body of 256 KiB or a page of 1 MiB; a pod has 512 MiB for all. */
const MAX_BYTES = 64 * 1024 * 1024;
/** Nobody is cut off before. */
const PATIENCE_MS = 2_000;
const REPORT_EVERY_MS = 1_000;

interface Holder {
  destroy(): unknown;
}

/**
 * What is held for clients that are slow: bodies that have not come whole, and answers that are not read. When it becomes
 * too much, those are cut off who have been waited for the longest.
 */
export class HeldBytes {
  private readonly logger = new Logger('http');
  private readonly held = new Map<Holder, { readonly bytes: number; readonly since: number }>();
  private sum = 0;
  private cutOff = 0;

  /** @param bytes what it may come to, where that is not known yet */
  hold(holder: Holder, bytes: number): void {
    this.release(holder);
    const now = performance.now();
    this.held.set(holder, { bytes, since: now });
    this.sum += bytes;
    for (const [oldest, { since }] of this.held) {
      if (this.sum <= MAX_BYTES || now - since < PATIENCE_MS) break;
      this.release(oldest);
      oldest.destroy();
      this.report();
    }
  }

  release(holder: Holder): void {
    this.sum -= this.held.get(holder)?.bytes ?? 0;
    this.held.delete(holder);
  }

  private report(): void {
    this.cutOff += 1;
    if (this.cutOff > 1) return;
    setTimeout(() => {
      this.logger.warn({ cutOff: this.cutOff }, 'clients cut off: too much is held for those who are slow');
      this.cutOff = 0;
    }, REPORT_EVERY_MS).unref();
  }
}
