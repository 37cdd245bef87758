import type { IHeaders } from 'kafkajs';
import { newContext } from '@platform/request-context';
import { contextOf, MalformedEvent, textHeader, toConsumedEvent } from './consumed-event';

const context = newContext();

const headers = (changes: object = {}): IHeaders => ({
  ce_id: Buffer.from('evt_1'),
  ce_type: Buffer.from('order.created'),
  ce_subject: Buffer.from('ord_1'),
  ...changes,
});

describe('textHeader', () => {
  it.each<[string, unknown, string | undefined]>([
    ['bytes', Buffer.from('späte'), 'späte'],
    ['text', 'text', 'text'],
    ['nothing', undefined, undefined],
    ['null', null, undefined],
    ['no bytes', Buffer.alloc(0), undefined],
    ['two values', [Buffer.from('1'), Buffer.from('2')], undefined],
  ])('reads %s', (_, value, text) => {
    expect(textHeader({ name: value } as IHeaders, 'name')).toBe(text);
  });
});

describe('toConsumedEvent', () => {
  it('returns the attributes and the data', () => {
    const event = toConsumedEvent(headers(), Buffer.from('{"a":[1]}'), context);
    expect(event).toEqual({ id: 'evt_1', type: 'order.created', subject: 'ord_1', data: { a: [1] }, context });
  });

  it.each(['ce_id', 'ce_type', 'ce_subject'])('refuses an event without %s', (name) => {
    const read = () => toConsumedEvent(headers({ [name]: undefined }), Buffer.from('{}'), context);
    expect(read).toThrow(new MalformedEvent(`The header ${name} is missing`));
  });

  it.each([null, Buffer.alloc(0), Buffer.from('{'), Buffer.from([0, 1, 2])])('refuses the value %s', (value) => {
    expect(() => toConsumedEvent(headers(), value, context)).toThrow(MalformedEvent);
  });

  it('reads a value of 2 MiB and no larger one, which could take all memory', () => {
    const value = (length: number) => Buffer.from(`"${'x'.repeat(length - 2)}"`);
    expect(toConsumedEvent(headers(), value(2 ** 21), context).data).toHaveLength(2 ** 21 - 2);
    expect(() => toConsumedEvent(headers(), value(2 ** 21 + 1), context)).toThrow(
      new MalformedEvent('The value exceeds 2097152 bytes'),
    );
  });
});

describe('contextOf', () => {
  it('continues the trace that the headers name', () => {
    const traceparent = '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01';
    const { requestId, trace } = contextOf(headers({ traceparent, 'x-request-id': Buffer.from('req_1') }));
    expect(requestId).toBe('req_1');
    expect(trace).toMatchObject({ traceId: '4bf92f3577b34da6a3ce929d0e0e4736', parentSpanId: '00f067aa0ba902b7' });
  });

  it('names the order that the event is about, and nothing else that it may be about', () => {
    const orderId = 'ord_01fwhe4ydgfk1shh6w1g60eecf';
    const about = (subject: string) => contextOf(headers({ ce_subject: Buffer.from(subject) })).orderId;
    expect(about(orderId)).toBe(orderId);
    for (const subject of ['cust_123', `${orderId}a`, 'ord_Max Mustermann']) expect(about(subject)).toBeUndefined();
  });

  it('begins a trace where they name none', () => {
    expect(contextOf(headers()).trace.parentSpanId).toBeUndefined();
  });
});
