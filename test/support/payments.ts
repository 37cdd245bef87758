import type { RunningServer } from '../../apps/sandbox/src/listen';
import { type Payment, startPaymentApi } from '../../apps/sandbox/src/payment-api';
import { api } from './client';
import { freePort } from './free-port';

/** The sandbox's payment API, for one test file alone; it can be away for a while. */
export class Payments {
  private server: RunningServer | undefined;

  private constructor(
    private readonly port: number,
    private readonly file: string | undefined,
  ) {}

  /** @param file where it remembers what it holds while it is away */
  static async start(file?: string): Promise<Payments> {
    const payments = new Payments(await freePort(), file);
    await payments.comeBack();
    return payments;
  }

  get url(): string {
    return `http://127.0.0.1:${this.port}`;
  }

  async all(): Promise<Payment[]> {
    return (await api(this.url)('/v1/payments')).body.data as Payment[];
  }

  async of(orderId: string): Promise<Payment[]> {
    return (await api(this.url)(`/v1/payments?orderId=${orderId}`)).body.data as Payment[];
  }

  async goAway(): Promise<void> {
    await this.server?.stop();
    this.server = undefined;
  }

  async comeBack(): Promise<void> {
    this.server ??= await startPaymentApi(this.port, this.file);
  }
}
