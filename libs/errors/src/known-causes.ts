const FOR_MS = 1_000;

/**
 * Remembers for a second why a dependency was unavailable: in an outage it is the same for hundreds of requests a second,
 * and a line in the log for each would only hide the others.
 */
export class KnownCauses {
  private readonly causes = new Set<string>();
  private since = 0;

  isNew(cause: unknown): boolean {
    const now = performance.now();
    if (now - this.since >= FOR_MS) {
      this.causes.clear();
      this.since = now;
    }
    const text = String(cause);
    if (this.causes.has(text)) return false;
    this.causes.add(text);
    return true;
  }
}
