import type { Config } from '@platform/config';
import { type EndedSpan, Spans } from '@platform/tracing';
import { EventPublisher, EventRefused } from './event-publisher';
import type { StoredEvent } from './stored-event';
import { TracedPublisher } from './traced-publisher';

const TRACE_ID = '4bf92f3577b34da6a3ce929d0e0e4736';

const event = (id: string, traceparent: string | null) =>
  ({ id: `0198c0de-0000-7000-8000-00000000000${id}`, type: 'order.created', traceparent }) as StoredEvent;

describe('TracedPublisher', () => {
  const spans = new Spans({ spans: undefined });
  let added: { trace: object; span: EndedSpan }[];
  let arrived: readonly StoredEvent[];
  let publisher: TracedPublisher;
  let fails: boolean;

  class Transport extends EventPublisher {
    async connect(): Promise<void> {}

    async publish(events: readonly StoredEvent[]): Promise<void> {
      arrived = events;
      if (fails) throw new EventRefused('away');
    }
  }

  beforeEach(() => {
    [added, arrived, fails] = [[], [], false];
    jest.spyOn(spans, 'has').mockImplementation(({ flags }) => flags === '01');
    jest.spyOn(spans, 'add').mockImplementation((trace, span) => void added.push({ trace, span }));
    publisher = new TracedPublisher(new Transport(), spans, { kafka: {} } as Config, 'things.events');
  });

  it('hands each event on as a child of the work that caused it, and nothing else of it changed', async () => {
    const events = [event('1', `00-${TRACE_ID}-00f067aa0ba902b7-01`), event('2', null)];
    await publisher.publish(events);
    expect(arrived).toEqual(events.map((one) => ({ ...one, traceparent: expect.any(String) as string })));
    const [first, second] = arrived.map(({ traceparent }) => traceparent?.split('-') ?? []);
    expect(first?.[1]).toBe(TRACE_ID);
    expect(first?.[2]).not.toBe('00f067aa0ba902b7');
    expect(second?.[1]).not.toBe(TRACE_ID);
    expect(added.map(({ trace }) => trace)).toEqual([
      { traceId: TRACE_ID, spanId: first?.[2], parentSpanId: '00f067aa0ba902b7', flags: '01' },
      { traceId: second?.[1], spanId: second?.[2], flags: '01' },
    ]);
    expect(added[0]?.span).toMatchObject({
      name: 'send things.events',
      kind: 'PRODUCER',
      error: undefined,
      attributes: {
        'messaging.system': 'kafka',
        'messaging.message.id': expect.stringMatching(/^evt_[0-9a-z]{26}$/) as string,
        'cloudevents.event_type': 'order.created',
      },
    });
  });

  it('makes no span for an event whose trace is not recorded', async () => {
    await publisher.publish([event('1', `00-${TRACE_ID}-00f067aa0ba902b7-00`)]);
    expect(arrived[0]?.traceparent).toMatch(/-00$/);
    expect(added).toEqual([]);
  });

  it('says of all events of a batch that failed how it did, and rejects as the transport did', async () => {
    fails = true;
    await expect(publisher.publish([event('1', null), event('2', null)])).rejects.toThrow('away');
    expect(added).toMatchObject([{ span: { error: 'EventRefused' } }, { span: { error: 'EventRefused' } }]);
  });
});
