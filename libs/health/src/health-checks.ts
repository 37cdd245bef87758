import { Injectable } from '@nestjs/common';

/** Rejects when the dependency is away. */
type Check = () => Promise<void>;

/** What `/health/ready` looks at. Each part of the service that has a dependency registers it here. */
@Injectable()
export class HealthChecks {
  /** Without these the process is not ready. */
  readonly required = new Map<string, Check>();
  /** These are shown and do not decide: requests are served without them. */
  readonly reported = new Map<string, Check>();
  private draining = false;

  /** From now on the process is not ready: it shuts down. */
  drain(): void {
    this.draining = true;
  }

  get isDraining(): boolean {
    return this.draining;
  }
}
