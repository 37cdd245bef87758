import type { Config } from '@platform/config';
import { messageSpan } from './message-span';

describe('messageSpan', () => {
  const message = { topic: 'orders.events', eventId: 'evt_01fwhe4ydgfk1shh6w1g60eecf', eventType: 'order.created' };

  it.each([
    [message.eventId, message.eventId],
    ['x'.repeat(100_000), 'x'.repeat(64)],
    [undefined, undefined],
  ])('names the event, however long the id is that its publisher wrote', (eventId, named) => {
    const { attributes } = messageSpan('process', { ...message, eventId }, {} as Config);
    expect(attributes['messaging.message.id']).toBe(named);
  });
});
