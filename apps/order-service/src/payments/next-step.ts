/** What is known of an order and of its payment. */
export interface PaymentState {
  readonly status: 'PENDING' | 'CONFIRMED' | 'REJECTED' | 'CANCELLED';
  /** As the payment API last said; null while it has said nothing. */
  readonly paymentStatus: 'AUTHORIZED' | 'DECLINED' | 'VOIDED' | null;
  /** Whether the payment API may hold a payment, because it was asked for one. */
  readonly wasAsked: boolean;
  /** Time since the payment became due, in milliseconds. */
  readonly ageMs: number;
}

export type Step = 'ask' | 'void' | 'give-up' | 'nothing';

/**
 * Decides the next step of a payment. It depends on stored state alone, so it does not matter which process did the
 * last step, or whether that process learned the outcome.
 *
 * If an order ends while its payment is unknown, the payment API is still asked, with the same key: only its answer
 * shows whether there is an authorised payment that has to be voided.
 */
export function nextStep({ status, paymentStatus, wasAsked, ageMs }: PaymentState, giveUpMs: number): Step {
  const hasEnded = status === 'CANCELLED' || status === 'REJECTED';
  if (paymentStatus !== null) return paymentStatus === 'AUTHORIZED' && hasEnded ? 'void' : 'nothing';
  if (hasEnded) return wasAsked ? 'ask' : 'nothing';
  if (status === 'CONFIRMED') return 'nothing';
  return ageMs >= giveUpMs ? 'give-up' : 'ask';
}
