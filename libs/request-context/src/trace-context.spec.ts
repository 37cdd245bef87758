import { childOf, parseTraceparent, traceparent } from './trace-context';

const TRACE_ID = '4bf92f3577b34da6a3ce929d0e0e4736';
const SPAN_ID = '00f067aa0ba902b7';

describe('parseTraceparent', () => {
  it.each([
    ['the example of the specification', `00-${TRACE_ID}-${SPAN_ID}-01`, '01'],
    ['a span that is not sampled', `00-${TRACE_ID}-${SPAN_ID}-00`, '00'],
    ['a later version', `01-${TRACE_ID}-${SPAN_ID}-01`, '01'],
    ['a later version with more to it', `cc-${TRACE_ID}-${SPAN_ID}-01-what-the-future-will-be-like`, '01'],
    ['a later version with nothing behind its dash', `fe-${TRACE_ID}-${SPAN_ID}-01-`, '01'],
  ])('reads %s', (_, header, flags) => {
    expect(parseTraceparent(header)).toEqual({ traceId: TRACE_ID, spanId: SPAN_ID, flags });
  });

  it.each<[string, string | undefined]>([
    ['no header', undefined],
    ['an empty header', ''],
    ['words', 'not a traceparent'],
    ['the forbidden version', `ff-${TRACE_ID}-${SPAN_ID}-01`],
    ['version 00 with more to it', `00-${TRACE_ID}-${SPAN_ID}-01-more`],
    ['version 00 with a dash at its end', `00-${TRACE_ID}-${SPAN_ID}-01-`],
    ['a later version with more and no dash', `cc-${TRACE_ID}-${SPAN_ID}-01.more`],
    ['a trace id of zeros', `00-${'0'.repeat(32)}-${SPAN_ID}-01`],
    ['a span id of zeros', `00-${TRACE_ID}-${'0'.repeat(16)}-01`],
    ['upper case', `00-${TRACE_ID.toUpperCase()}-${SPAN_ID}-01`],
    ['digits that are not hex', `00-${TRACE_ID.replace('b', 'g')}-${SPAN_ID}-01`],
    ['a trace id that is too short', `00-${TRACE_ID.slice(1)}-${SPAN_ID}-01`],
    ['a trace id that is too long', `00-${TRACE_ID}0-${SPAN_ID}-01`],
    ['a span id that is too short', `00-${TRACE_ID}-${SPAN_ID.slice(1)}-01`],
    ['a span id that is too long', `00-${TRACE_ID}-${SPAN_ID}0-01`],
    ['a version that is too short', `0-${TRACE_ID}-${SPAN_ID}-01`],
    ['flags that are too short', `00-${TRACE_ID}-${SPAN_ID}-1`],
    ['no flags', `00-${TRACE_ID}-${SPAN_ID}`],
    ['white space', ` 00-${TRACE_ID}-${SPAN_ID}-01`],
    ['a line feed', `00-${TRACE_ID}-${SPAN_ID}-01\n`],
    ['two headers in one', `00-${TRACE_ID}-${SPAN_ID}-01,00-${TRACE_ID}-${SPAN_ID}-01`],
  ])('returns undefined for %s', (_, header) => {
    expect(parseTraceparent(header)).toBeUndefined();
  });
});

describe('childOf', () => {
  it.each(['00', '01'])('stays in the trace of its parent, with its flags %s and a span of its own', (flags) => {
    const child = childOf({ traceId: TRACE_ID, spanId: SPAN_ID, flags });
    const spanId = expect.stringMatching(/^[0-9a-f]{16}$/) as string;
    expect(child).toEqual({ traceId: TRACE_ID, spanId, parentSpanId: SPAN_ID, flags });
    expect(child.spanId).not.toBe(SPAN_ID);
  });

  it('starts a sampled trace without a parent', () => {
    expect(childOf(undefined)).toEqual({
      traceId: expect.stringMatching(/^[0-9a-f]{32}$/),
      spanId: expect.stringMatching(/^[0-9a-f]{16}$/),
      flags: '01',
    });
  });

  it('gives every trace and every span an id of its own', () => {
    const roots = Array.from({ length: 100 }, () => childOf(undefined));
    expect(new Set(roots.map(({ traceId }) => traceId)).size).toBe(100);
    expect(new Set(roots.map(({ spanId }) => spanId)).size).toBe(100);
  });
});

describe('traceparent', () => {
  it('writes the header of a span', () => {
    const header = traceparent({ traceId: TRACE_ID, spanId: SPAN_ID, flags: '01' });
    expect(header).toBe(`00-${TRACE_ID}-${SPAN_ID}-01`);
  });

  it('writes what parseTraceparent reads', () => {
    const span = childOf(undefined);
    expect(parseTraceparent(traceparent(span))).toEqual(span);
  });

  it('continues a later version in the version that it knows', () => {
    const parent = parseTraceparent(`cc-${TRACE_ID}-${SPAN_ID}-01-more`);
    expect(traceparent(childOf(parent))).toMatch(new RegExp(`^00-${TRACE_ID}-[0-9a-f]{16}-01$`));
  });
});
