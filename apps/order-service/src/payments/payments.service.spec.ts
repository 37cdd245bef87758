import timers from 'node:timers/promises';
import { Logger } from '@nestjs/common';
import type { JobSignals } from '@platform/jobs';
import { OutboundFailure } from '@platform/resilience';
import { UnexpectedAnswer } from './payment-api';
import { PaymentsService } from './payments.service';

type Handler = (job: { orderId: string }, signals: JobSignals) => Promise<void>;

describe('PaymentsService', () => {
  const api = { attemptTimeoutMs: 1_000, isReady: false, ready: jest.fn(), authorize: jest.fn() };
  const orders = { findWith: jest.fn(), whilePending: jest.fn(), applyPayment: jest.fn() };
  const payments = { countAttempt: jest.fn() };
  const jobs = { enqueueAgain: jest.fn() };
  let handler: Handler;

  beforeEach(() => {
    jest.resetAllMocks();
    api.isReady = false;
    jest.spyOn(Math, 'random').mockReturnValue(0.5);
    jest.spyOn(Logger.prototype, 'warn').mockImplementation();
    orders.applyPayment.mockResolvedValue({ status: 'CONFIRMED', paymentStatus: 'AUTHORIZED' });
    // As if the circuit were open until a signal fires, and were found closed where none has.
    api.ready.mockImplementation(async (signal: AbortSignal) => signal.throwIfAborted());
    given(0);
    const runner = { handle: (_task: string, given: Handler) => void (handler = given) };
    const database = { inTransaction: (work: (tx: unknown) => Promise<unknown>) => work('tx') };
    const fakes = [{ paymentGiveUpMs: 1e9 }, database, orders, payments, api, jobs, { inc: jest.fn() }, runner];
    new PaymentsService(...(fakes as unknown as ConstructorParameters<typeof PaymentsService>));
  });
  afterEach(() => jest.restoreAllMocks());

  const dueAfter = (attempts: number, changes = {}) => ({
    ...{ status: 'PENDING', customerId: 'cust_1', currency: 'EUR', totalValue: '1.00', paymentId: null },
    ...{ paymentStatus: null, wasAsked: true, ageMs: 1, attempts, ...changes },
  });
  /** An order whose payment was asked for that often in vain. */
  const given = (attempts: number, changes = {}) => orders.findWith.mockResolvedValue(dueAfter(attempts, changes));
  const carryOn = (stopping = new AbortController().signal) =>
    handler({ orderId: 'ord_1' }, { stopping, abort: new AbortController().signal });
  const failure = (kind: OutboundFailure['kind'], retryAfterMs?: number) =>
    new OutboundFailure('payment', kind, { wasSent: kind === 'status', status: 503, retryAfterMs });
  /** When the job is to be run again, in ms from now. */
  const delays = () => jobs.enqueueAgain.mock.calls.map(([, , , { delayMs }]) => delayMs as number);

  it.each([
    ['after its own pause where it was asked for none', 0, undefined, 1_500],
    ['after as long as it was asked to wait', 0, 60_000, 60_000],
    ['after an hour where it was asked to wait longer', 0, 7_200_000, 3_600_000],
    ['after its own pause where that is longer', 5, 10_000, 48_000],
  ])('asks again %s', async (_, attempts, retryAfterMs, delayMs) => {
    given(attempts);
    api.authorize.mockRejectedValue(failure('status', retryAfterMs));
    await carryOn();
    expect(delays()).toEqual([delayMs]);
    expect(payments.countAttempt.mock.calls).toEqual([['tx', 'ord_1']]);
  });

  it('asks again after as long as an answer asked to wait that it did not understand', async () => {
    api.authorize.mockRejectedValue(new UnexpectedAnswer({ status: 409, headers: { 'retry-after': '20' }, body: {} }));
    await carryOn();
    expect(delays()).toEqual([20_000]);
  });

  it('pauses for no longer than a pending order has left until it is given up', async () => {
    given(0, { ageMs: 1e9 - 700 });
    api.authorize.mockRejectedValue(failure('status', 60_000));
    await carryOn();
    given(0, { ageMs: 2e9, status: 'CANCELLED' });
    await carryOn();
    expect(delays()).toEqual([700, 60_000]);
  });

  it.each([
    [0, 1_000],
    [3, 8_000],
    [10, 30_000],
  ])('gives the API more time after %i attempts in vain: %i ms', async (attempts, attemptTimeoutMs) => {
    given(attempts);
    api.authorize.mockResolvedValue({ paymentId: 'pay_1', status: 'AUTHORIZED' });
    await carryOn();
    const options = expect.objectContaining({ attemptTimeoutMs }) as unknown;
    expect(api.authorize.mock.calls).toEqual([[expect.anything(), options]]);
  });

  it('reads and marks a pending order with one statement where the circuit is closed', async () => {
    api.isReady = true;
    orders.whilePending.mockResolvedValue(dueAfter(0));
    api.authorize.mockResolvedValue({ paymentId: 'pay_1', status: 'AUTHORIZED' });
    await carryOn();
    expect(orders.whilePending).toHaveBeenCalledTimes(1);
    expect(orders.applyPayment).toHaveBeenCalledTimes(1);
    expect([orders.findWith, api.ready].flatMap(({ mock }) => mock.calls)).toEqual([]);
  });

  it('marks an order only after the wait for the circuit, and asks for nothing if it ended meanwhile', async () => {
    given(0, { wasAsked: false });
    api.ready.mockImplementation(async () => {
      expect(orders.whilePending).not.toHaveBeenCalled();
      api.isReady = true;
      given(0, { wasAsked: false, status: 'CANCELLED' });
    });
    await carryOn();
    expect(orders.whilePending).toHaveBeenCalledTimes(1);
    expect(api.authorize).not.toHaveBeenCalled();
  });

  it('is left to another process when its call was cut short, which is no attempt', async () => {
    api.authorize.mockRejectedValue(failure('aborted'));
    await carryOn();
    expect(delays()).toEqual([0]);
    expect(payments.countAttempt).not.toHaveBeenCalled();
  });

  it('waits for a circuit for six seconds, and then lets others have its place', async () => {
    const patience = jest.spyOn(AbortSignal, 'timeout').mockReturnValue(AbortSignal.abort());
    await carryOn();
    expect(patience.mock.calls).toEqual([[6_000]]);
    expect(delays()).toEqual([3_000]);
    expect([api.authorize, payments.countAttempt].flatMap(({ mock }) => mock.calls)).toEqual([]);
  });

  it('is left to another process at once when this one stops, and is not marked', async () => {
    api.isReady = true;
    await carryOn(AbortSignal.abort());
    expect(delays()).toEqual([0]);
    const { whilePending } = orders;
    expect([whilePending, api.authorize, payments.countAttempt].flatMap(({ mock }) => mock.calls)).toEqual([]);
  });

  it.each(['bulkhead_full', 'circuit_open'] as const)('takes %s for no attempt', async (kind) => {
    const pause = jest.spyOn(timers, 'setTimeout').mockResolvedValue(undefined);
    const answer = { paymentId: 'pay_1', status: 'AUTHORIZED' };
    api.authorize.mockRejectedValueOnce(failure(kind)).mockResolvedValueOnce(answer);
    await carryOn();
    expect(pause.mock.calls).toEqual([[500]]);
    expect(orders.applyPayment.mock.calls).toEqual([[expect.objectContaining({ customerId: 'cust_1' }), answer]]);
    expect([jobs.enqueueAgain, payments.countAttempt].flatMap(({ mock }) => mock.calls)).toEqual([]);
  });
});
