import { nextStep, type PaymentState, type Step } from './next-step';

const GIVE_UP_MS = 1_000;

const STATUSES: PaymentState['status'][] = ['PENDING', 'CONFIRMED', 'REJECTED', 'CANCELLED'];

const step = (state: Partial<PaymentState>): Step =>
  nextStep({ status: 'PENDING', paymentStatus: null, wasAsked: false, ageMs: 0, ...state }, GIVE_UP_MS);

describe('nextStep', () => {
  it('asks for the payment of a pending order, whether or not it was asked for before', () => {
    expect(step({ wasAsked: false })).toBe('ask');
    expect(step({ wasAsked: true })).toBe('ask');
  });

  it('gives up a pending order when its time is up', () => {
    expect(step({ ageMs: GIVE_UP_MS - 1 })).toBe('ask');
    expect(step({ ageMs: GIVE_UP_MS })).toBe('give-up');
    expect(step({ ageMs: GIVE_UP_MS, wasAsked: true })).toBe('give-up');
  });

  it.each(['REJECTED', 'CANCELLED'] as const)('asks on for a %s order that may have been charged', (status) => {
    expect(step({ status, wasAsked: true })).toBe('ask');
    expect(step({ status, wasAsked: true, ageMs: 10 * GIVE_UP_MS })).toBe('ask');
  });

  it.each(['REJECTED', 'CANCELLED'] as const)('leaves a %s order alone that was never asked for', (status) => {
    expect(step({ status, wasAsked: false })).toBe('nothing');
  });

  it.each(['REJECTED', 'CANCELLED'] as const)('voids the authorisation of a %s order', (status) => {
    expect(step({ status, paymentStatus: 'AUTHORIZED', wasAsked: true })).toBe('void');
  });

  it('keeps the authorisation of a confirmed order', () => {
    expect(step({ status: 'CONFIRMED', paymentStatus: 'AUTHORIZED', wasAsked: true })).toBe('nothing');
    expect(step({ status: 'CONFIRMED' })).toBe('nothing'); // confirmed by somebody else, without a payment of ours
  });

  it.each(STATUSES)('has nothing to do for a %s order whose payment was declined or voided', (status) => {
    expect(step({ status, paymentStatus: 'DECLINED', wasAsked: true })).toBe('nothing');
    expect(step({ status, paymentStatus: 'VOIDED', wasAsked: true })).toBe('nothing');
  });
});
