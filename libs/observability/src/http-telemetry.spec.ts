import { EventEmitter } from 'node:events';
import { Logger } from '@nestjs/common';
import { register } from 'prom-client';
import { httpTelemetry } from './http-telemetry';

describe('httpTelemetry', () => {
  beforeEach(() => register.resetMetrics());
  afterEach(() => jest.restoreAllMocks());

  /** Has a request handled, and gives what ends it. */
  function begin(answer: object = {}): () => void {
    const req = { method: 'GET', path: '/things/1', route: { path: '/things/:id' } };
    const res = Object.assign(new EventEmitter(), { statusCode: 200, writableFinished: true, locals: {}, ...answer });
    httpTelemetry({ has: () => false } as never)(req as never, res as never, () => undefined);
    return () => void res.emit('close');
  }
  const metrics = async () => (await register.metrics()).split('\n');

  it('counts and times each request by its route', async () => {
    jest.spyOn(Logger.prototype, 'log').mockImplementation();
    jest.spyOn(performance, 'now').mockReturnValueOnce(0).mockReturnValueOnce(400);
    begin()();
    const labels = 'method="GET",route="/things/:id",status_code="200"';
    expect(await metrics()).toEqual(
      expect.arrayContaining([
        `http_requests_total{${labels}} 1`,
        `http_request_duration_seconds_bucket{le="0.3",${labels}} 0`,
        `http_request_duration_seconds_bucket{le="0.5",${labels}} 1`,
        `http_request_duration_seconds_sum{${labels}} 0.4`,
      ]),
    );
  });

  it('counts as in flight what is not answered yet', async () => {
    jest.spyOn(Logger.prototype, 'log').mockImplementation();
    const ends = [begin(), begin()];
    expect(await metrics()).toContain('in_flight_requests 2');
    for (const end of ends) end();
    expect(await metrics()).toContain('in_flight_requests 0');
  });

  it.each([
    ['an answer', 'log', 'Request completed', 201, { statusCode: 201 }],
    ['a refusal', 'warn', 'Request refused', 404, { statusCode: 404 }],
    ['a failure', 'error', 'Request failed', 503, { statusCode: 503 }],
    ['an answer that its client did not wait for', 'warn', 'Request refused', 499, { writableFinished: false }],
  ] as const)('tells of %s at level %s: %s with %i', async (_, level, message, statusCode, answer) => {
    const written = jest.spyOn(Logger.prototype, level).mockImplementation();
    begin(answer)();
    expect(written.mock.calls).toEqual([[expect.objectContaining({ route: '/things/:id', statusCode }), message]]);
    const labels = `method="GET",route="/things/:id",status_code="${statusCode}"`;
    expect(await metrics()).toContain(`http_requests_total{${labels}} 1`);
  });
});
