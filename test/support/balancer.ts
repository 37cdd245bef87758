import { once } from 'node:events';
import net from 'node:net';

const PROBE_MS = 100;
/** As in the chart: on a busy machine an answer may be late. */
const PROBE_TIMEOUT_MS = 3_000;

/**
 * What Kubernetes puts before the pods: new connections go to ready endpoints in turn, and a connection stays where it
 * is until one of its ends closes it. Nothing is retried, so that a client sees whatever an endpoint does wrong.
 */
export class Balancer {
  /** What the latest answered probe of each said, and when it was sent. */
  private readonly endpoints = new Map<string, { isReady: boolean; askedAt: number }>();
  private readonly clients = new Set<net.Socket>();
  private readonly server = net.createServer((client) => this.connect(client));
  private timer: NodeJS.Timeout | undefined;
  private turn = 0;

  static async start(): Promise<Balancer> {
    const balancer = new Balancer();
    balancer.server.listen(0, '127.0.0.1');
    await once(balancer.server, 'listening');
    balancer.timer = setInterval(() => void balancer.probe(), PROBE_MS);
    return balancer;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.server.address() as net.AddressInfo).port}`;
  }

  add(url: string): void {
    this.endpoints.set(url, { isReady: false, askedAt: 0 });
  }

  remove(url: string): void {
    this.endpoints.delete(url);
  }

  isReady(url: string): boolean {
    return this.endpoints.get(url)?.isReady === true;
  }

  /** Ends the connections too: clients keep theirs open, and jest would wait for them. */
  stop(): void {
    clearInterval(this.timer);
    this.server.close();
    for (const client of this.clients) client.destroy();
  }

  private connect(client: net.Socket): void {
    this.clients.add(client);
    client.on('close', () => this.clients.delete(client));
    const ready = [...this.endpoints.keys()].filter((url) => this.isReady(url));
    const url = ready[(this.turn += 1) % ready.length];
    if (url === undefined) {
      client.resetAndDestroy();
      return;
    }
    const endpoint = net.connect(Number(new URL(url).port), '127.0.0.1');
    endpoint.on('error', () => client.resetAndDestroy());
    client.on('error', () => endpoint.destroy());
    client.on('close', () => endpoint.destroy());
    client.pipe(endpoint).pipe(client);
  }

  private async probe(): Promise<void> {
    const probes = [...this.endpoints.keys()].map(async (url) => {
      const askedAt = performance.now();
      const signal = AbortSignal.timeout(PROBE_TIMEOUT_MS);
      const answer = await fetch(`${url}/health/ready`, { signal }).catch(() => undefined);
      await answer?.body?.cancel();
      const known = this.endpoints.get(url);
      if (known && askedAt > known.askedAt) this.endpoints.set(url, { isReady: answer?.ok === true, askedAt });
    });
    await Promise.all(probes);
  }
}
