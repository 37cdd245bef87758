import { Logger } from '@nestjs/common';

/** For all clients of a process; a pod has 512 MiB. One request can hold a body of 256 KiB or a page of 1 MiB. */
const MAX_BYTES = 64 * 1024 * 1024;
/** No client is cut off before it has been waited for this long. */
const GRACE_MS = 2_000;
const REPORT_EVERY_MS = 1_000;

interface Holder {
  destroy(): unknown;
}

/**
 * Memory held for slow clients: for bodies that have not arrived in full and responses that are not read. If it becomes
 * too much, the clients that have been waited for the longest are cut off.
 */
export class HeldBytes {
  private readonly logger = new Logger('http');
  private readonly held = new Map<Holder, { readonly bytes: number; readonly since: number }>();
  private sum = 0;
  private cutOff = 0;

  /** @param bytes an upper bound, if the size is not known yet */
  hold(holder: Holder, bytes: number): void {
    this.release(holder);
    const now = performance.now();
    this.held.set(holder, { bytes, since: now });
    this.sum += bytes;
    for (const [oldest, { since }] of this.held) {
      if (this.sum <= MAX_BYTES || now - since < GRACE_MS) break;
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
      this.logger.warn({ cutOff: this.cutOff }, 'Slow clients cut off: what was held for them took too much memory');
      this.cutOff = 0;
    }, REPORT_EVERY_MS).unref();
  }
}
