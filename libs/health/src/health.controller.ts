import { Controller, Get, Res, ServiceUnavailableException, VERSION_NEUTRAL } from '@nestjs/common';
import { ApiExcludeController } from '@nestjs/swagger';
import { HealthCheckService, type HealthIndicatorResult, HealthIndicatorService } from '@nestjs/terminus';
import { Public } from '@platform/auth';
import { InjectMetric } from '@willsoto/nestjs-prometheus';
import type { Response } from 'express';
import type { Gauge } from 'prom-client';
import { HealthChecks } from './health-checks';

const CHECK_TIMEOUT_MS = 1_000;

/** Kubernetes probes. Their bodies are Terminus's, for operators, and no part of the public API. */
@Public()
@ApiExcludeController()
@Controller({ path: 'health', version: VERSION_NEUTRAL })
export class HealthController {
  private checking: Promise<unknown> | undefined;

  constructor(
    private readonly health: HealthCheckService,
    private readonly indicators: HealthIndicatorService,
    private readonly checks: HealthChecks,
    @InjectMetric('dependency_up') private readonly up: Gauge<'dependency'>,
  ) {}

  /** Checks no dependency: a process that drains, or whose database is unavailable, must not be restarted for it. */
  @Get('live')
  live() {
    return { status: 'ok' };
  }

  @Get('ready')
  async ready(@Res({ passthrough: true }) res: Response): Promise<unknown> {
    try {
      const answer = await this.sharedCheck();
      // A check that began before the shutdown is outdated.
      return this.checks.isDraining ? await this.sharedCheck() : answer;
    } catch (error) {
      if (!(error instanceof ServiceUnavailableException)) throw error;
      res.status(503);
      return error.getResponse();
    }
  }

  /** Concurrent callers share a check: anybody may call, and each check needs a connection of the pool. */
  private sharedCheck(): Promise<unknown> {
    return (this.checking ??= this.check().finally(() => (this.checking = undefined)));
  }

  private check(): Promise<unknown> {
    return this.health.check([
      () => {
        const process = this.indicators.check('process');
        return this.checks.isDraining ? process.down('shutting down') : process.up();
      },
      ...[...this.checks.required].map(
        ([name, check]) =>
          () =>
            this.attempt(name, check),
      ),
      ...[...this.checks.reported].map(([name, check]) => async () => {
        const result = await this.attempt(name, check);
        if (result[name]?.status === 'down') result[name].status = 'degraded';
        return result;
      }),
    ]);
  }

  private async attempt(name: string, check: () => Promise<void>): Promise<HealthIndicatorResult> {
    const result = await this.indicators.check(name).attempt(check).withTimeout(CHECK_TIMEOUT_MS);
    this.up.set({ dependency: name }, result[name]?.status === 'up' ? 1 : 0);
    return result;
  }
}
