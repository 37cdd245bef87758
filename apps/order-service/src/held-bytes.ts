/** What one client can make us hold is a body of 256 KiB or a page of 1 MiB; a pod has 512 MiB for all. */
const MOST_BYTES = 64 * 1024 * 1024;

interface Holder {
  destroy(): unknown;
}

/**
 * What is held for clients that are slow: bodies that have not come whole, and answers that are not read. When it becomes
 * too much, those are cut off who have been waited for the longest: who is quick is never among them.
 */
export class HeldBytes {
  private readonly held = new Map<Holder, number>();
  private sum = 0;

  hold(holder: Holder, bytes: number): void {
    this.release(holder);
    this.held.set(holder, bytes);
    this.sum += bytes;
    for (const oldest of this.held.keys()) {
      if (this.sum <= MOST_BYTES) break;
      this.release(oldest);
      oldest.destroy();
    }
  }

  release(holder: Holder): void {
    this.sum -= this.held.get(holder) ?? 0;
    this.held.delete(holder);
  }
}
