import { Inject, Injectable } from '@nestjs/common';
import { CONFIG, type Config } from '@platform/config';
import { InjectOutbound, OutboundClient, type OutboundResponse, parseRetryAfter } from '@platform/resilience';
import { z } from 'zod';

const answer = z.object({
  // It becomes a path segment, where `.` and `..` would lead elsewhere.
  paymentId: z.string().regex(/^(?!\.{1,2}$)[\x21-\x7e]{1,255}$/),
  status: z.enum(['AUTHORIZED', 'DECLINED']),
  // An invalid reason is repaired or dropped, so that it does not leave the payment unknown.
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
  /** How long one attempt may take, in milliseconds. */
  readonly attemptTimeoutMs?: number;
  readonly signal: AbortSignal;
}

/** The payment API's answer does not follow its contract: it is unknown whether there is a payment. */
export class UnexpectedAnswer extends Error {
  override readonly name = 'UnexpectedAnswer';
  /** The payment API's `Retry-After`, in milliseconds. */
  readonly retryAfterMs: number | undefined;

  /** The message has the answer's status, content type and the names of wrong fields, but no values. */
  constructor({ status, headers }: OutboundResponse, wrong: readonly string[] = []) {
    const type = headers['content-type']?.slice(0, 100) ?? 'no content type';
    super(`The payment API answered ${status} (${type})${wrong.length > 0 ? `: ${wrong.join(', ')}` : ''}`);
    this.retryAfterMs = parseRetryAfter(headers['retry-after']);
  }
}

/** 201 for a new payment; payment APIs answer 200 for one that already exists under the same key. */
const hasPayment = (status: number) => status === 201 || status === 200;

/** Names of the fields that keep an answer from being a valid payment. */
const faultsOf = ({ status, body }: OutboundResponse) =>
  hasPayment(status)
    ? answer.safeParse(body).error?.issues.map(({ path }) => path.join('.') || 'not a JSON object')
    : [];

const resultOf = ({ status, body }: OutboundResponse) => (hasPayment(status) ? answer.safeParse(body).data : undefined);

/** A maintenance page is not an answer of the payment API, and a payment reported with another status is not voided. */
const isVoided = ({ status, headers, body }: OutboundResponse) =>
  status === 204 ||
  (status === 200 && !/html/i.test(headers['content-type'] ?? '') && (statusIn(body) ?? 'VOIDED') === 'VOIDED');

const statusIn = (body: unknown) => (body as { status?: unknown } | null | undefined)?.status;

/** Calls the payment API. Both calls may be repeated: their idempotency keys depend on the order alone. */
@Injectable()
export class PaymentApi {
  /** How long one attempt may take by default, in milliseconds. */
  readonly attemptTimeoutMs: number;

  constructor(
    @InjectOutbound('payment') private readonly client: OutboundClient,
    @Inject(CONFIG) { paymentApi }: Config,
  ) {
    if (!paymentApi) throw new Error('PAYMENT_API_URL is required');
    this.attemptTimeoutMs = paymentApi.attemptTimeoutMs;
  }

  /** See {@link OutboundClient.isReady}. */
  get isReady(): boolean {
    return this.client.isReady;
  }

  /** Resolves when the circuit would let a call through. See {@link OutboundClient.ready}. */
  ready(signal: AbortSignal, { tenantId, attempts }: { tenantId: string; attempts: number }): Promise<void> {
    return this.client.ready(signal, { group: tenantId, failures: attempts });
  }

  /** Asks for a payment. @throws {OutboundFailure | UnexpectedAnswer} if it is unknown whether there is one */
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
    if (!result) throw new UnexpectedAnswer(answered, faultsOf(answered));
    return result;
  }

  /** Voids a payment. @throws {OutboundFailure | UnexpectedAnswer} if it is unknown whether it is voided */
  async void(orderId: string, paymentId: string, options: CallOptions): Promise<void> {
    const answered = await this.client.request({
      method: 'POST',
      path: `/v1/payments/${encodeURIComponent(paymentId)}/void`,
      idempotencyKey: `void-of-${orderId}`,
      isExpected: isVoided,
      ...options,
    });
    if (!isVoided(answered))
      throw new UnexpectedAnswer(answered, statusIn(answered.body) === undefined ? [] : ['status']);
  }
}
