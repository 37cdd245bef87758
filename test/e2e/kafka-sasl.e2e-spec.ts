import { type KafkaBroker, startKafkaOnJvm } from '../../apps/sandbox/src/kafka';
import { spawnService } from '../support/child';
import { anOrder, api, fetchToken, placeOrder } from '../support/client';
import { createDatabase, type TestDatabase } from '../support/database';
import { freePort } from '../support/free-port';
import { brokerOptions, createOrdersTopics } from '../support/own-broker';
import { describeWithOwnBroker } from '../support/topic';
import { until } from '../support/until';

const PASSWORD = 'the password of orders';
const WRONG_PASSWORD = 'a password of nobody';

describeWithOwnBroker('A Kafka that asks for a password', () => {
  let database: TestDatabase;
  let broker: KafkaBroker;
  let token: string;
  let kafka: NodeJS.ProcessEnv;

  beforeAll(async () => {
    database = await createDatabase();
    token = await fetchToken('order-orchestrator');
    const options = await brokerOptions();
    const saslPort = await freePort();
    const plain = `PLAINTEXT://127.0.0.1:${options.port}`;
    const sasl = `SASL_PLAINTEXT://127.0.0.1:${saslPort}`;
    const login = 'org.apache.kafka.common.security.plain.PlainLoginModule';
    broker = await startKafkaOnJvm(options, {
      listeners: `${plain},${sasl},CONTROLLER://127.0.0.1:${options.controllerPort}`,
      'advertised.listeners': `${plain},${sasl}`,
      'listener.security.protocol.map': 'PLAINTEXT:PLAINTEXT,SASL_PLAINTEXT:SASL_PLAINTEXT,CONTROLLER:PLAINTEXT',
      'sasl.enabled.mechanisms': 'PLAIN',
      'listener.name.sasl_plaintext.plain.sasl.jaas.config': `${login} required user_orders="${PASSWORD}";`,
    });
    kafka = {
      KAFKA_BROKERS: `127.0.0.1:${saslPort}`,
      KAFKA_SASL_MECHANISM: 'plain',
      KAFKA_SASL_USERNAME: 'orders',
      KAFKA_SASL_PASSWORD: PASSWORD,
    };
    await createOrdersTopics({ DATABASE_URL: database.url, ...kafka });
  });

  afterAll(async () => {
    await broker.stop();
    await database.drop();
  });

  it('gets and hands out events', async () => {
    const service = await spawnService({ DATABASE_URL: database.url, ROLES: 'api,worker', ...kafka });
    const orders = api(service.url, token);
    const { orderId } = await placeOrder(orders);
    // An order is paid when its event was published and consumed.
    const isPaid = async () => (await orders(`/v1/orders/${orderId}`)).body.status === 'CONFIRMED';
    await until('the payment', isPaid);
    const { details } = (await orders('/health/ready')).body;
    expect([details.kafka.status, details['kafka-consumer'].status]).toEqual(['up', 'up']);
    expect(JSON.stringify(service.lines)).not.toContain(PASSWORD);
    await service.end();
  });

  it('refuses a wrong password, which stands in no log line, and orders are accepted all the same', async () => {
    const service = await spawnService({
      DATABASE_URL: database.url,
      ROLES: 'api,worker',
      LOG_LEVEL: 'debug',
      ...kafka,
      KAFKA_SASL_PASSWORD: WRONG_PASSWORD,
    });
    const orders = api(service.url, token);
    const { status, body } = await orders('/v1/orders', { body: anOrder() });
    expect(status).toBe(201);
    const refusals = () => service.lines.filter((line) => JSON.stringify(line).includes('authentication failed'));
    await until('refusals', () => refusals().length >= 4);
    const ready = await orders('/health/ready');
    expect(ready.status).toBe(200);
    expect(ready.body.details).toMatchObject({
      kafka: { status: 'degraded' },
      'kafka-consumer': { status: 'degraded' },
    });
    expect((await orders(`/v1/orders/${body.orderId}`)).body.status).toBe('PENDING');
    await service.end();
    const log = JSON.stringify(service.lines);
    for (const secret of [WRONG_PASSWORD, Buffer.from(`\0orders\0${WRONG_PASSWORD}`).toString('base64')]) {
      expect(log).not.toContain(secret);
    }
  });
});
