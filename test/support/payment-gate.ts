import http from 'node:http';
import { text } from 'node:stream/consumers';
import { listen, type RunningServer } from '../../apps/sandbox/src/listen';
import { type Payment, startPaymentApi } from '../../apps/sandbox/src/payment-api';
import { api } from './client';

/** A request for a payment, as it came to the gate. */
interface Charge {
  readonly orderId: string;
  readonly customerId: string;
  readonly idempotencyKey: string;
  /** Who sent it: the caller whose URL ({@link PaymentGate.urlFor}) was used. */
  readonly caller: string;
}

/** Holds the charges of one customer. */
interface Barrier {
  /** Charges that wait here. */
  readonly held: Charge[];
  /** Lets them go on, and holds no more. */
  readonly lift: () => void;
}

/** The sandbox's payment API behind a gate that counts charges, and that holds them where a test wants it. */
export class PaymentGate {
  private readonly charges: Charge[] = [];
  private readonly barriers = new Map<string, Barrier & { place: 'before' | 'after'; lifted: Promise<void> }>();

  private constructor(
    private readonly behind: RunningServer,
    private readonly gate: RunningServer,
  ) {}

  static async start(): Promise<PaymentGate> {
    const server = http.createServer();
    const gate = new PaymentGate(await startPaymentApi(0), await listen(server, 0));
    server.on('request', (req, res) => void gate.pass(req, res).catch((error: Error) => res.destroy(error)));
    return gate;
  }

  /** URL of the payment API for `caller`. */
  urlFor(caller: string): string {
    return `${this.gate.url}/${caller}`;
  }

  /**
   * Holds the charges of a customer before they reach the API, or after it has charged and before its answer goes out.
   */
  hold(customerId: string, place: 'before' | 'after'): Barrier {
    const { promise: lifted, resolve } = Promise.withResolvers<void>();
    const lift = () => {
      this.barriers.delete(customerId);
      resolve();
    };
    const barrier = { place, held: [], lifted, lift };
    this.barriers.set(customerId, barrier);
    return barrier;
  }

  liftAll(): void {
    for (const barrier of this.barriers.values()) barrier.lift();
  }

  /** How often a payment of the order was asked for, by idempotency key. */
  chargesOf(orderId: string): Record<string, number> {
    const counts: Record<string, number> = {};
    for (const { idempotencyKey: key } of this.charges.filter((charge) => charge.orderId === orderId)) {
      counts[key] = (counts[key] ?? 0) + 1;
    }
    return counts;
  }

  /** What the API itself holds. */
  async paymentsOf(orderId: string): Promise<Payment[]> {
    return (await api(this.behind.url)(`/v1/payments?orderId=${orderId}`)).body.data as Payment[];
  }

  async stop(): Promise<void> {
    await this.gate.stop();
    await this.behind.stop();
  }

  private async pass(req: http.IncomingMessage, res: http.ServerResponse): Promise<void> {
    const [, caller = '', path = ''] = /^\/([^/]+)(\/.*)$/.exec(req.url ?? '') ?? [];
    const idempotencyKey = String(req.headers['idempotency-key']);
    const body = await text(req);
    const isCharge = path === '/v1/payments';
    const charge = { ...(isCharge && JSON.parse(body)), idempotencyKey, caller } as Charge;
    if (isCharge) this.charges.push(charge);

    await this.standAt('before', charge);
    if (res.closed) return; // the caller died meanwhile, and the request with it
    const answer = await api(this.behind.url)(path, {
      method: req.method,
      headers: { 'content-type': 'application/json', 'idempotency-key': idempotencyKey },
      body,
    });
    await this.standAt('after', charge);
    res.writeHead(answer.status, { 'content-type': 'application/json' }).end(answer.text);
  }

  private async standAt(place: 'before' | 'after', charge: Charge): Promise<void> {
    const barrier = this.barriers.get(charge.customerId);
    if (barrier?.place !== place) return;
    barrier.held.push(charge);
    await barrier.lifted;
  }
}
