import { createServer, type IncomingHttpHeaders } from 'node:http';
import type { AddressInfo } from 'node:net';
import timers from 'node:timers/promises';
import { Logger } from '@nestjs/common';
import { diag } from '@opentelemetry/api';
import { hrTimeToMilliseconds } from '@opentelemetry/core';
import { BatchSpanProcessor } from '@opentelemetry/sdk-trace';
import { type EndedSpan, errorTypeOf, Spans } from './spans';

const TRACE = { traceId: 'a'.repeat(32), spanId: 'b'.repeat(16), parentSpanId: 'c'.repeat(16), flags: '01' };

const aSpan = (kind: EndedSpan['kind'] = 'SERVER') => ({
  name: 'work',
  kind,
  start: performance.now(),
  attributes: {},
});

describe('Spans', () => {
  const spansTo = (url: string) => new Spans({ spans: { url, headers: {}, resource: {} } });

  afterEach(() => jest.restoreAllMocks());

  it.each<[EndedSpan['kind'], boolean]>([
    ['CLIENT', false],
    ['SERVER', true],
    ['PRODUCER', true],
    ['CONSUMER', true],
    ['INTERNAL', true],
  ])('say of a %s whether its parent is another piece of work: %p', (kind, isRemote) => {
    const onEnd = jest.spyOn(BatchSpanProcessor.prototype, 'onEnd').mockImplementation();
    spansTo('http://127.0.0.1:1').add(TRACE, aSpan(kind));
    expect(onEnd.mock.calls).toMatchObject([[{ parentSpanContext: { spanId: TRACE.parentSpanId, isRemote } }]]);
  });

  it('follow the clock of the system when it is set', () => {
    const onEnd = jest.spyOn(BatchSpanProcessor.prototype, 'onEnd').mockImplementation();
    const spans = spansTo('http://127.0.0.1:1');
    spans.add(TRACE, aSpan());
    const anHourOn = Date.now() + 3_600_000;
    jest.spyOn(Date, 'now').mockReturnValue(anHourOn);
    spans.add(TRACE, aSpan());
    const [before = NaN, after = NaN] = onEnd.mock.calls.map(([{ startTime }]) => hrTimeToMilliseconds(startTime));
    expect(anHourOn - before).toBeGreaterThan(3_500_000);
    expect(anHourOn - after).toBeLessThan(100_000);
  });

  it('are said to be dropped once in ten seconds, and how often that was left out since', () => {
    const warn = jest.spyOn(Logger.prototype, 'warn').mockImplementation();
    const now = jest.spyOn(performance, 'now');
    spansTo('http://127.0.0.1:1');
    for (const second of [20, 21, 29, 30, 40]) {
      now.mockReturnValue(second * 1_000);
      diag.warn('refused');
    }
    expect(warn.mock.calls.map(([facts]) => facts)).toEqual([0, 2, 0].map((unsaid) => ({ reason: 'refused', unsaid })));
  });

  it('go out with the headers that the collector asks for', async () => {
    const { promise: received, resolve } = Promise.withResolvers<IncomingHttpHeaders>();
    const server = createServer((req, res) => {
      resolve(req.headers);
      req.resume().on('end', () => res.end());
    });
    await new Promise<void>((listening) => server.listen(0, '127.0.0.1', listening));
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    const spans = new Spans({ spans: { url, headers: { 'x-api-key': 'of-the-collector' }, resource: {} } });
    spans.add(TRACE, aSpan());
    await spans.close();
    server.close();
    expect(await received).toMatchObject({ 'x-api-key': 'of-the-collector' });
  });

  it('all go out at the end, as many as can be left', async () => {
    jest.spyOn(timers, 'setTimeout').mockReturnValue(new Promise(() => undefined)); // as long as it takes
    const warn = jest.spyOn(Logger.prototype, 'warn').mockImplementation();
    const answers: (() => void)[] = [];
    const server = createServer((req, res) => {
      req.resume();
      answers.push(() => void res.end());
      if (answers.length === 5) for (const answer of answers) answer();
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const spans = spansTo(`http://127.0.0.1:${(server.address() as AddressInfo).port}`);
    for (let n = 0; n < 5 * 512; n += 1) spans.add(TRACE, aSpan());
    await spans.close();
    server.close();
    expect(answers).toHaveLength(5);
    expect(warn).not.toHaveBeenCalled();
  });
});

describe('errorTypeOf', () => {
  it.each<[unknown, string]>([
    [Object.assign(new Error(), { code: 'ECONNRESET' }), 'ECONNRESET'],
    [Object.assign(new Error(), { code: 7 }), 'Error'],
    [new TypeError(), 'TypeError'],
    ['text', 'string'],
    [null, 'object'],
    [undefined, 'undefined'],
  ])('of %p is %s', (thrown, type) => {
    expect(errorTypeOf(thrown)).toBe(type);
  });
});
