import { Logger } from '@nestjs/common';
import { KafkaContext } from '@nestjs/microservices';
import { Spans } from '@platform/tracing';
import { EventConsumer } from './event-consumer';

describe('EventConsumer.consume', () => {
  const inbox = { once: () => Promise.resolve(true) };
  const events = new EventConsumer({} as never, inbox as never, {} as never, new Spans({ spans: undefined }), {
    inc: () => undefined,
  } as never);
  const headers = { ce_id: 'evt_1', ce_type: 'order.created', ce_subject: 'ord_1' };
  const message = { headers, value: Buffer.from('{}') };
  const aDelivery = () => new KafkaContext([message, 0, 'orders.events'] as never);
  const handlers = { 'order.created': () => Promise.resolve() };

  afterEach(() => jest.restoreAllMocks());

  it('refuses a name that another consumer has, which would take its events from it', async () => {
    const delivery = aDelivery();
    await events.consume('payments', delivery, handlers);
    await events.consume('refunds', delivery, handlers);
    await expect(events.consume('payments', delivery, handlers)).rejects.toThrow(
      'Two consumers of orders.events are named payments',
    );
    await events.consume('payments', aDelivery(), handlers);
  });

  it('leaves an event that fails to whoever has its partition now, when the group has taken that away', async () => {
    jest.spyOn(Logger.prototype, 'warn').mockImplementation();
    const once = jest.spyOn(inbox, 'once').mockRejectedValue(new Error('fails'));
    const expelled = new Error('The coordinator is not aware of this member');
    const heartbeat = () => Promise.reject(expelled);
    const delivery = new KafkaContext([message, 0, 'orders.events', undefined, heartbeat, undefined] as never);
    await expect(events.consume('payments', delivery, handlers)).rejects.toBe(expelled);
    expect(once).toHaveBeenCalledTimes(1);
  });

  it.each([
    ['lets the service do nothing', '42501'],
    ['has no tables', '42P01'],
  ])('leaves an event for later when the database %s, which is not its fault', async (_, code) => {
    const fault = Object.assign(new Error('refused'), { code });
    const once = jest.spyOn(inbox, 'once').mockRejectedValue(fault);
    await expect(events.consume('payments', aDelivery(), handlers)).rejects.toBe(fault);
    expect(once).toHaveBeenCalledTimes(1);
  });
});
