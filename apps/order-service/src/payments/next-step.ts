/** What is known of an order and of its payment. */
export interface PaymentState {
  readonly status: 'PENDING' | 'CONFIRMED' | 'REJECTED' | 'CANCELLED';
  /** As the payment API last said; null while it has said nothing. */
  readonly paymentStatus: 'AUTHORIZED' | 'DECLINED' | 'VOIDED' | null;
  /** Whether the payment API may hold a payment, because it was asked for one. */
  readonly wasAsked: boolean;
  /** Since when the payment is due. */
  readonly ageMs: number;
}

export type Step = 'ask' | 'void' | 'give-up' | 'nothing';

/**
 * What is to be done next to carry a payment on. It depends on what is written down alone, so it does not matter who did
 * the last step, and whether they knew that they did.
 *
 * An order that ended while its payment was unknown is still asked for, with the same key: that is the only way to learn
 * of an authorisation, and it must be learnt of to be voided.
 */
export function nextStep({ status, paymentStatus, wasAsked, ageMs }: PaymentState, giveUpMs: number): Step {
  const hasEnded = status === 'CANCELLED' || status === 'REJECTED';
  if (paymentStatus !== null) return paymentStatus === 'AUTHORIZED' && hasEnded ? 'void' : 'nothing';
  if (hasEnded) return wasAsked ? 'ask' : 'nothing';
  if (status === 'CONFIRMED') return 'nothing';
  return ageMs >= giveUpMs ? 'give-up' : 'ask';
}
