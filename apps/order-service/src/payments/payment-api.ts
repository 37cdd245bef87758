import { Inject, Injectable } from '@nestjs/common';
import { CONFIG, type Config } from '@platform/config';
import { InjectOutbound, type OutboundAnswer, OutboundClient } from '@platform/resilience';
import { z } from 'zod';

const answer = z.object({
  // As a segment of a path, `.` and `..` would lead elsewhere.
  paymentId: z.string().regex(/^(?!\.{1,2}$)[\x21-\x7e]{1,255}$/),
  status: z.enum(['AUTHORIZED', 'DECLINED']),
  // Nobody's payment shall stay unknown for what is wrong with a reason.
  reason: z
    .string()
    .transform((text) => text.slice(0, 255).replaceAll('\0', '').toWellFormed())
    .pipe(z.string().min(1))
    .optional()
    .catch(undefined),
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

  /** Tells of the answer what is not a value of it. */
  constructor({ status, headers, body }: OutboundAnswer) {
    const type = headers['content-type']?.slice(0, 100) ?? 'no content type';
    const wrong = answer.safeParse(body).error?.issues.map(({ path }) => path.join('.') || 'not a JSON object');
    super(`The payment API answered ${status} (${type})${status === 201 && wrong ? `: ${wrong.join(', ')}` : ''}`);
  }
}

const resultOf = ({ status, body }: OutboundAnswer) => (status === 201 ? answer.safeParse(body).data : undefined);

const isVoided = ({ status }: OutboundAnswer) => status === 200;

/** The payment API as we call it. Both calls may be repeated: their keys depend on the order alone. */
@Injectable()
export class PaymentApi {
  /** How long one attempt may take, unless the caller has more patience. */
  readonly attemptTimeoutMs: number;

  constructor(
    @InjectOutbound('payment') private readonly client: OutboundClient,
    @Inject(CONFIG) { paymentApi }: Config,
  ) {
    if (!paymentApi) throw new Error('PAYMENT_API_URL is required');
    this.attemptTimeoutMs = paymentApi.attemptTimeoutMs;
  }

  /** Resolves when a call would be let through. Rejects when the signal fires first. */
  ready(signal: AbortSignal, failures: number): Promise<void> {
    return this.client.ready(signal, failures);
  }

  /** @throws {OutboundFailure | UnexpectedAnswer} whether there is a payment is then not known */
  async authorize(charge: Charge, options: CallOptions): Promise<PaymentApiAnswer> {
    const { orderId, customerId, amount } = charge;
    const answered = await this.client.request({
      method: 'POST',
      path: '/v1/payments',
      body: { orderId, amount, customerId },
      idempotencyKey: `payment-of-${orderId}`,
      isExpected: (candidate) => resultOf(candidate) !== undefined,
      ...options,
    });
    const result = resultOf(answered);
    if (!result) throw new UnexpectedAnswer(answered);
    return result;
  }

  /** @throws {OutboundFailure | UnexpectedAnswer} the payment may or may not be voided */
  async void(orderId: string, paymentId: string, options: CallOptions): Promise<void> {
    const answered = await this.client.request({
      method: 'POST',
      path: `/v1/payments/${encodeURIComponent(paymentId)}/void`,
      idempotencyKey: `void-of-${orderId}`,
      isExpected: isVoided,
      ...options,
    });
    if (!isVoided(answered)) throw new UnexpectedAnswer(answered);
  }
}
