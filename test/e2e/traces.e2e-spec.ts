import { type ServiceProcess, spawnService } from '../support/child';
import { anOrder, api, fetchToken } from '../support/client';
import { type CollectedSpan, Collector } from '../support/collector';
import { createDatabase, PATIENT, type TestDatabase } from '../support/database';
import { firstBelow, until } from '../support/until';

const CALLER = { traceId: '0af7651916cd43dd8448eb211c80319c', spanId: 'b7ad6b7169203331' };
const traceparent = (flags: string) => `00-${CALLER.traceId}-${CALLER.spanId}-${flags}`;

describe('Traces', () => {
  let collector: Collector;
  let database: TestDatabase;
  let token: string;
  let service: ServiceProcess;

  beforeAll(async () => {
    token = await fetchToken('order-orchestrator');
  });

  const start = async () => {
    service = await spawnService({
      DATABASE_URL: database.url + PATIENT,
      PAYMENT_API_ATTEMPT_TIMEOUT_MS: '60000',
      PAYMENT_API_DEADLINE_MS: '60000',
      OTEL_EXPORTER_OTLP_ENDPOINT: collector.url,
      OTEL_RESOURCE_ATTRIBUTES: 'deployment.environment.name=test',
    });
  };

  beforeEach(async () => {
    [collector, database] = await Promise.all([Collector.start(), createDatabase()]);
    await start();
  });

  afterEach(async () => {
    await service.end('SIGKILL');
    await collector.stop();
    await database.drop();
  });

  const orders = (headers = {}, body = anOrder({ customerId: 'cust_of_a_trace' })) =>
    api(service.url, token)('/v1/orders', { body, headers });

  const confirmed = (orderId: string) =>
    until('the payment', async () => {
      const { body } = await api(service.url, token)(`/v1/orders/${orderId}`);
      return body.status === 'CONFIRMED';
    });

  it('show the whole way of an order, from who asked for it to the payment API', async () => {
    const before = Date.now();
    const { body: receipt } = await orders({ traceparent: traceparent('01'), 'x-request-id': 'the-request' });
    await confirmed(receipt.orderId);
    await until('the second event', async () => {
      const published = await database.query('SELECT FROM outbox WHERE published_at IS NOT NULL');
      return published.length === 2;
    });
    expect(await service.end()).toBe(0);

    const spans = collector.spans.filter(({ traceId }) => traceId === CALLER.traceId);
    const about = { 'app.request.id': 'the-request', 'app.order.id': receipt.orderId };
    const [server] = children(spans, CALLER.spanId);
    expect(server).toMatchObject({
      name: 'POST /v1/orders',
      kind: 'SERVER',
      isError: false,
      attributes: {
        ...about,
        'http.request.method': 'POST',
        'http.route': '/v1/orders',
        'http.response.status_code': '201',
        'url.scheme': 'http',
        'app.client.id': 'order-orchestrator',
      },
      resource: { 'service.name': 'order-service', 'deployment.environment.name': 'test' },
    });
    const logged = service.lines.find(
      ({ msg, requestId }) => msg === 'Request completed' && requestId === 'the-request',
    );
    expect(logged).toMatchObject({ traceId: CALLER.traceId, spanId: server?.spanId });

    const [sent] = children(spans, server?.spanId);
    expect(sent).toMatchObject({
      name: 'send orders.events',
      kind: 'PRODUCER',
      attributes: {
        'messaging.system': 'in_process',
        'messaging.destination.name': 'orders.events',
        'messaging.message.id': expect.stringMatching(/^evt_/),
        'cloudevents.event_type': 'order.created',
      },
    });
    const [processed] = children(spans, sent?.spanId);
    expect(processed).toMatchObject({
      name: 'process orders.events',
      kind: 'CONSUMER',
      attributes: { 'messaging.message.id': sent?.attributes['messaging.message.id'] },
    });
    const [job] = children(spans, processed?.spanId);
    expect(job).toMatchObject({ name: 'job process-payment', kind: 'INTERNAL', attributes: about });
    const [call, told] = children(spans, job?.spanId);
    expect(call).toMatchObject({
      name: 'POST',
      kind: 'CLIENT',
      isError: false,
      attributes: {
        'server.address': '127.0.0.1',
        'url.full': expect.stringMatching(/\/v1\/payments$/),
        'http.response.status_code': '201',
        'peer.service': 'payment',
      },
    });
    expect(told).toMatchObject({ kind: 'PRODUCER', attributes: { 'cloudevents.event_type': 'order.confirmed' } });
    expect(spans).toHaveLength(6);

    for (const { startMs, endMs, attributes } of spans) {
      expect(Object.values(attributes)).not.toContain(undefined);
      expect(startMs).toBeGreaterThan(before - 5);
      expect(endMs).toBeGreaterThanOrEqual(startMs);
      expect(endMs).toBeLessThanOrEqual(Date.now() + 1);
    }
    const all = JSON.stringify(collector.spans);
    for (const secret of ['cust_of_a_trace', token]) expect(all).not.toContain(secret);
  });

  it('are left out where the caller does not record its own, and for probes', async () => {
    const { body: receipt } = await orders({ traceparent: traceparent('00') });
    await confirmed(receipt.orderId);
    await fetch(`${service.url}/health/ready`);
    await fetch(`${service.url}/metrics`);
    await fetch(`${service.url}/nowhere?customerId=cust_of_a_trace`);
    expect(await service.end()).toBe(0);

    expect(collector.spans.filter(({ traceId }) => traceId === CALLER.traceId)).toEqual([]);
    const others = collector.spans.filter(({ attributes }) => attributes['http.route'] !== '/v1/orders/:orderId');
    expect(others).toHaveLength(1);
    expect(others[0]).toMatchObject({
      name: 'GET',
      parentSpanId: '',
      isError: false,
      attributes: { 'http.response.status_code': '404', 'app.error.code': 'ROUTE_NOT_FOUND' },
    });
    expect(JSON.stringify(collector.spans)).not.toContain('cust_of_a_trace');
  });

  it('say what failed: a request, an attempt, a job', async () => {
    const noOrder = { orderId: 'ord_00000000000000000000000000', origin: { traceparent: traceparent('01') } };
    await database.query(`SELECT graphile_worker.add_job('process-payment', $1::json)`, [JSON.stringify(noOrder)]);
    await orders({}, anOrder({ customerId: 'cust_down' }));
    await until('the second run', async () => {
      const payments = await database.query('SELECT FROM payments WHERE attempts >= 2');
      return payments.length === 1;
    });
    await database.query('ALTER TABLE audit_events RENAME TO audit_events_away');
    expect((await orders()).status).toBe(500);
    await service.end();

    const failed = collector.spans.filter(({ isError }) => isError);
    const errors = (name: string) =>
      failed.filter((span) => span.name === name).map((span) => span.attributes['error.type']);
    expect(errors('POST /v1/orders')).toEqual(['INTERNAL_ERROR']);
    expect(new Set(errors('POST'))).toEqual(new Set(['503']));
    const job = failed.find(({ traceId, name }) => traceId === CALLER.traceId && name === 'job process-payment');
    expect(job).toMatchObject({ parentSpanId: CALLER.spanId, attributes: { 'error.type': 'ORDER_NOT_FOUND' } });

    // The runs of one job stand beside each other: waiting makes a trace no deeper.
    const isRun = ({ name, traceId }: CollectedSpan) => name === 'job process-payment' && traceId !== CALLER.traceId;
    const runs = collector.spans.filter(isRun);
    expect(runs.length).toBeGreaterThanOrEqual(2);
    expect(new Set(runs.map(({ parentSpanId }) => parentSpanId)).size).toBe(1);
  });

  it.each<[string, Buffer, string]>([
    // ExportTraceServiceResponse { partial_success { rejected_spans: 1, error_message: "too many" } }
    ['takes a part of them', Buffer.from('\x0a\x0c\x08\x01\x12\x08too many'), 'too many'],
    ['answers rubbish', Buffer.from('<html>canary</html>'), 'could not deserialize response'],
  ])('have a warning when the collector %s', async (_, answer, reason) => {
    collector.answer = answer;
    await orders();
    await service.end();
    const warnings = service.lines.filter(({ context }) => context === 'Spans');
    expect(warnings).toMatchObject([{ level: 'warn', reason: expect.stringContaining(reason) }]);
    expect(JSON.stringify(warnings)).not.toContain('canary');
  });

  it('cost neither an answer nor the shutdown when the collector refuses them', async () => {
    collector.status = 400;
    expect((await orders()).status).toBe(201);
    const warnings = () => service.lines.filter(({ context }) => context === 'Spans');
    const [warning] = await until('a warning', () => warnings().length > 0 && warnings());
    expect(warning).toMatchObject({ level: 'warn', msg: 'Spans cannot be exported; they are dropped' });
    expect(warning).not.toHaveProperty('requestId'); // it is of many requests
    expect((await orders()).status).toBe(201);
    expect(await service.end()).toBe(0);
    expect(warnings()).toHaveLength(1); // of many that would say the same
  });

  it('keep a process that ends for 1 s at most when the collector does not answer', async () => {
    collector.status = 0;
    const end = async () => {
      if (service.process.exitCode !== null) await start();
      expect((await orders()).status).toBe(201);
      const began = performance.now();
      expect(await service.end()).toBe(0);
      const tookMs = performance.now() - began;
      expect(tookMs).toBeGreaterThan(900);
      expect(service.lines.filter(({ context }) => context === 'Spans')).toMatchObject([
        { level: 'warn', msg: 'The collector did not take the last spans in time; they are dropped' },
      ]);
      return tookMs;
    };
    expect(await firstBelow(3_000, end)).toBeLessThan(3_000);
  });
});

function children(spans: readonly CollectedSpan[], parent: string | undefined): CollectedSpan[] {
  return spans.filter(({ parentSpanId }) => parentSpanId === parent).sort((a, b) => a.startMs - b.startMs);
}
