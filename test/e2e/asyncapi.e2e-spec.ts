import { randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import Ajv2020 from 'ajv/dist/2020';
import addFormats from 'ajv-formats';
import { anOrder, type Api, api, fetchToken, placeOrder } from '../support/client';
import { pieces } from '../support/pieces';
import { startService, type TestService } from '../support/service';
import { describeWithKafka, Topic } from '../support/topic';
import { until } from '../support/until';

/** Of orders; modules may add theirs. */
const TYPES = ['order.created', 'order.confirmed', 'order.rejected', 'order.cancelled', 'customer.erased'];

const description = JSON.parse(readFileSync('docs/asyncapi.json', 'utf8'));
const { schemas, messages } = description.components;
const payloads = Object.keys(schemas).filter((name) => name.includes('.'));

const ajv = addFormats(new Ajv2020({ strict: false, allErrors: true }));
ajv.addSchema(description, 'description');
const pointTo = (name: string) => ({ $ref: `description#/components/schemas/${name}` });

/** Here nothing may be unknown: what an event gains has to be described. */
const closed = structuredClone(description);
for (const name of ['Money', 'Item', 'Payment']) closed.components.schemas[name].additionalProperties = false;
for (const name of ['Headers', ...payloads]) closed.components.schemas[name].unevaluatedProperties = false;
ajv.addSchema(closed, 'closed');

/** What is wrong with it by the schema of this name. */
function faultsOf(name: string, value: unknown): unknown {
  const isValid = ajv.getSchema(`closed#/components/schemas/${name}`);
  if (!isValid) return `${name} is not described`;
  return isValid(value) ? undefined : isValid.errors;
}

describe('The description of the events', () => {
  it('has a message and a schema for each type, by its name, and lets all of them grow', () => {
    expect(payloads).toEqual(expect.arrayContaining(TYPES));
    expect(Object.keys(messages)).toEqual(payloads);
    expect(Object.keys(description.channels['orders.events'].messages)).toEqual(payloads);
    for (const type of payloads) expect(messages[type].payload).toEqual({ $ref: `#/components/schemas/${type}` });
    expect(JSON.stringify(description)).not.toMatch(/(additional|unevaluated)Properties/);
    const event = { customerId: 'erased_1', orderIds: [], ordersErased: 0, erasedAt: new Date().toISOString() };
    expect(ajv.validate(pointTo('customer.erased'), { ...event, later: 1 })).toBe(true);
    expect(ajv.validate(pointTo('customer.erased'), { ...event, orderIds: undefined })).toBe(false);
  });
});

describeWithKafka('The description of the events, with Kafka,', () => {
  let service: TestService;
  let orders: Api;
  let topic: Topic;

  beforeAll(async () => {
    service = await startService({ ROLES: 'api,worker', KAFKA_BROKERS: pieces().kafkaBrokers }, { isPatient: true });
    orders = api(service.url, await fetchToken('order-orchestrator'));
    topic = await Topic.read();
  });
  afterAll(async () => {
    await topic.close();
    await service.stop();
  });

  it('is true of each type, of those that an erasure has changed too', async () => {
    const customerId = `cust_${randomUUID()}`;
    const place = async (changes: object) => (await placeOrder(orders, anOrder(changes))).orderId;
    const ends = (id: string, status: string) =>
      until(`${status} of ${id}`, async () => (await orders(`/v1/orders/${id}`)).body.status === status);
    const items = [{ sku: 'ABC-001', quantity: 3 }];
    const totalAmount = { currency: 'JPY', value: '100' };

    const bare = await place({ items, totalAmount, metadata: undefined });
    const declined = await place({ customerId: 'cust_declined' });
    const cancelled = await place({ customerId });
    await Promise.all([ends(bare, 'CONFIRMED'), ends(declined, 'REJECTED'), ends(cancelled, 'CONFIRMED')]);
    const reason = { reason: 'no longer needed' };
    expect((await orders(`/v1/orders/${cancelled}/cancel`, { body: reason })).status).toBe(200);
    await until('its event', () => topic.about(cancelled).length === 3);
    const compliance = api(service.url, await fetchToken('compliance'));
    const { body: erasure } = await compliance(`/v1/customers/${customerId}/erasure`, { method: 'POST' });
    await until('its event', () => topic.about(erasure.pseudonym).length === 1);

    const events = [bare, declined, cancelled, erasure.pseudonym].flatMap((key) => topic.about(key));
    expect(new Set(events.map(({ headers }) => headers['ce_type']))).toEqual(new Set(TYPES));
    for (const { key, headers, value } of events) {
      const type = String(headers['ce_type']);
      expect(headers).toMatchObject({ ce_subject: key, ce_dataschema: `urn:order-a2a:schema:${type}:1` });
      expect([faultsOf('Headers', headers), faultsOf(type, JSON.parse(value))]).toEqual([undefined, undefined]);
    }

    const rewritten = await service.database.query<{ type: string; payload: Record<string, unknown> }>(
      `SELECT type, payload FROM outbox WHERE aggregateid = $1 ORDER BY sequence`,
      [cancelled],
    );
    for (const { type, payload } of rewritten) {
      expect(payload).toMatchObject({ customerId: erasure.pseudonym });
      expect([type, faultsOf(type, payload)]).toEqual([type, undefined]);
    }
    expect(rewritten.at(-1)).toMatchObject({ type: 'order.cancelled', payload: { status: 'CANCELLED' } });
    expect(rewritten.at(-1)?.payload).not.toHaveProperty('reason');
  });
});
