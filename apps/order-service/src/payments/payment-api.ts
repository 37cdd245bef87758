import { Injectable } from '@nestjs/common';
import { InjectOutbound, OutboundClient } from '@platform/resilience';
import { z } from 'zod';

const answer = z.object({
  paymentId: z.string().min(1).max(255),
  status: z.enum(['AUTHORIZED', 'DECLINED']),
  reason: z.string().min(1).max(255).optional(),
});

export type PaymentApiAnswer = z.infer<typeof answer>;

interface Charge {
  readonly orderId: string;
  readonly customerId: string;
  readonly amount: { readonly currency: string; readonly value: string };
}

export interface CallOptions {
  /** How long one attempt may take. */
  readonly attemptTimeoutMs?: number;
  readonly signal: AbortSignal;
}

/** The payment API answered, and not in a way that it should. Whether there is a payment is not known. */
export class UnexpectedAnswer extends Error {
  override readonly name = 'UnexpectedAnswer';
}

/** The payment API as we call it. Both calls may be repeated: their keys depend on the order alone. */
@Injectable()
export class PaymentApi {
  constructor(@InjectOutbound('payment') private readonly client: OutboundClient) {}

  /** Resolves when a call would be let through. Rejects when the signal fires first. */
  ready(signal: AbortSignal): Promise<void> {
    return this.client.ready(signal);
  }

  /** @throws {OutboundFailure | UnexpectedAnswer} whether there is a payment is then not known */
  async authorize(charge: Charge, options: CallOptions): Promise<PaymentApiAnswer> {
    const { orderId, customerId, amount } = charge;
    const { status, body } = await this.client.request({
      method: 'POST',
      path: '/v1/payments',
      body: { orderId, amount, customerId },
      idempotencyKey: `payment-of-${orderId}`,
      ...options,
    });
    const parsed = answer.safeParse(body);
    if (status !== 201 || !parsed.success) throw new UnexpectedAnswer(`The payment API answered ${status}`);
    return parsed.data;
  }

  /** @throws {OutboundFailure | UnexpectedAnswer} the payment may or may not be voided */
  async void(orderId: string, paymentId: string, options: CallOptions): Promise<void> {
    const { status } = await this.client.request({
      method: 'POST',
      path: `/v1/payments/${encodeURIComponent(paymentId)}/void`,
      idempotencyKey: `void-of-${orderId}`,
      ...options,
    });
    if (status !== 200) throw new UnexpectedAnswer(`The payment API answered ${status}`);
  }
}
