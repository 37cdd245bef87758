import { randomUUID } from 'node:crypto';
import { appendFileSync, existsSync, mkdirSync, readFileSync } from 'node:fs';
import http from 'node:http';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import express, { type Express, type Request, type Response } from 'express';
import { listen, type RunningServer } from './listen';

const SLOW_MS = 5_000;
const FLAKY_FAILURES = 2;

export interface Payment {
  readonly paymentId: string;
  readonly idempotencyKey: string;
  readonly orderId: string;
  readonly customerId: string;
  readonly amount: { readonly currency: string; readonly value: string };
  readonly status: 'AUTHORIZED' | 'DECLINED' | 'VOIDED';
  readonly reason?: string;
  /** Milliseconds since 1970. */
  readonly createdAt: number;
}

/**
 * Starts a simulated payment API. Some customers make it misbehave: `cust_declined`, `cust_slow`, `cust_flaky`,
 * `cust_down`. It remembers idempotency keys, and over restarts too if it is given a file.
 */
export async function startPaymentApi(port: number, file?: string, host?: string): Promise<RunningServer> {
  return listen(http.createServer(paymentApi(new Ledger(file))), port, host);
}

/** The payments. In the file, if there is one, each state of a payment is a line of JSON. */
class Ledger {
  private readonly payments = new Map<string, Payment>();
  private readonly idsByKey = new Map<string, string>();

  constructor(private readonly file: string | undefined) {
    if (file === undefined) return;
    mkdirSync(path.dirname(file), { recursive: true });
    const lines = existsSync(file) ? readFileSync(file, 'utf8').split('\n').filter(Boolean) : [];
    for (const line of lines) this.remember(JSON.parse(line) as Payment);
  }

  get all(): Payment[] {
    return [...this.payments.values()];
  }

  get(paymentId: string): Payment | undefined {
    return this.payments.get(paymentId);
  }

  byIdempotencyKey(key: string): Payment | undefined {
    return this.get(this.idsByKey.get(key) ?? '');
  }

  keep(payment: Payment): Payment {
    if (this.file !== undefined) appendFileSync(this.file, `${JSON.stringify(payment)}\n`);
    return this.remember(payment);
  }

  private remember(payment: Payment): Payment {
    this.payments.set(payment.paymentId, payment);
    this.idsByKey.set(payment.idempotencyKey, payment.paymentId);
    return payment;
  }
}

function paymentApi(ledger: Ledger): Express {
  const app = express();
  const failures = new Map<string, number>();
  app.use(express.json());

  app.post('/v1/payments', async (req: Request, res: Response) => {
    const { orderId, customerId, amount } = (req.body ?? {}) as Partial<Payment>;
    const idempotencyKey = req.get('idempotency-key');
    if (!idempotencyKey || !orderId || !customerId || !amount?.currency || !amount.value) {
      res.status(400).json({ error: 'Idempotency-Key, orderId, customerId and amount are required' });
      return;
    }
    if (customerId === 'cust_down' || isFlaky(customerId, idempotencyKey)) {
      res.status(503).json({ error: 'unavailable' });
      return;
    }
    const known = ledger.byIdempotencyKey(idempotencyKey);
    if (known && known.orderId !== orderId) {
      res.status(409).json({ error: 'Idempotency-Key was used for another order' });
      return;
    }
    const declined = customerId === 'cust_declined';
    const payment =
      known ??
      ledger.keep({
        paymentId: `pay_${randomUUID()}`,
        idempotencyKey,
        orderId,
        customerId,
        amount,
        status: declined ? 'DECLINED' : 'AUTHORIZED',
        ...(declined && { reason: 'insufficient_funds' }),
        createdAt: Date.now(),
      });
    if (customerId === 'cust_slow') await delay(Math.max(0, payment.createdAt + SLOW_MS - Date.now()));
    const { paymentId, reason } = payment;
    res.status(201).json({ paymentId, status: reason ? 'DECLINED' : 'AUTHORIZED', reason }); // the first answer, also once voided
  });

  app.get('/v1/payments', (req: Request, res: Response) => {
    const { orderId } = req.query;
    res.json({ data: ledger.all.filter((payment) => orderId === undefined || payment.orderId === orderId) });
  });

  app.post('/v1/payments/:paymentId/void', (req: Request<{ paymentId: string }>, res: Response) => {
    const payment = ledger.get(req.params.paymentId);
    if (!payment) res.status(404).json({ error: 'no such payment' });
    else if (payment.status === 'DECLINED') res.status(409).json({ error: 'a declined payment cannot be voided' });
    else {
      const { paymentId, status } = ledger.keep({ ...payment, status: 'VOIDED' });
      res.json({ paymentId, status });
    }
  });

  function isFlaky(customerId: string, idempotencyKey: string): boolean {
    if (customerId !== 'cust_flaky') return false;
    const failed = failures.get(idempotencyKey) ?? 0;
    failures.set(idempotencyKey, failed + 1);
    return failed < FLAKY_FAILURES;
  }

  return app;
}
