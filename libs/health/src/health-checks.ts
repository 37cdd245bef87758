import { Injectable } from '@nestjs/common';

/** Rejects if the dependency is unavailable. */
type Check = () => Promise<void>;

/** The checks behind `/health/ready`. Each part of the service registers those of its dependencies here, by name. */
@Injectable()
export class HealthChecks {
  /** If one fails, the process is not ready. */
  readonly required = new Map<string, Check>();
  /** Shown as `degraded` if they fail, without effect on readiness: requests can be served without them. */
  readonly reported = new Map<string, Check>();
  private draining = false;

  /** Makes the process not ready, because it shuts down. */
  drain(): void {
    this.draining = true;
  }

  get isDraining(): boolean {
    return this.draining;
  }
}
