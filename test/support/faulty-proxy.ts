import { once } from 'node:events';
import net from 'node:net';

interface Connection {
  /** What the client has sent on it. */
  sent: string;
  /** Lets nothing through any more, not even that a side has closed: as in a network partition. */
  isSilent: boolean;
  /** Is cut as soon as the server sends something. */
  endsAtAnswer: boolean;
}

interface Cut {
  /** Part of what a client sends. */
  readonly text: string;
  /**
   * `request`: it never reaches the server. `answer`: the server executes it, and its answer never reaches the client.
   */
  readonly at: 'request' | 'answer';
  times: number;
}

/** A TCP proxy to PostgreSQL that loses connections at the worst moments. */
export class FaultyProxy {
  private readonly cuts = new Set<Cut>();
  private readonly connections = new Set<Connection>();
  private readonly sockets = new Set<net.Socket>();
  private readonly server = net.createServer({ allowHalfOpen: true }, (client) => this.connect(client));

  private constructor(private readonly target: URL) {}

  static async to(databaseUrl: string): Promise<FaultyProxy> {
    const proxy = new FaultyProxy(new URL(databaseUrl));
    proxy.server.listen(0, '127.0.0.1');
    await once(proxy.server, 'listening');
    return proxy;
  }

  /** URL of the same database through this proxy. */
  get url(): string {
    const url = new URL(this.target);
    url.port = String((this.server.address() as net.AddressInfo).port);
    return url.href;
  }

  /** Cuts the next connections on which the text is sent. @returns how many of them are still to come */
  cut(text: string, at: Cut['at'], times: number): () => number {
    const cut = { text, at, times };
    this.cuts.add(cut);
    return () => cut.times;
  }

  /** Silences the connections on which the text was sent. */
  silence(text: string): void {
    for (const connection of this.connections) connection.isSilent ||= connection.sent.includes(text);
  }

  stop(): void {
    this.server.close();
    for (const socket of this.sockets) socket.destroy();
  }

  private connect(client: net.Socket): void {
    const server = net.connect({ port: Number(this.target.port), host: this.target.hostname, allowHalfOpen: true });
    const connection: Connection = { sent: '', isSilent: false, endsAtAnswer: false };
    this.connections.add(connection);
    const end = () => [client, server].forEach((socket) => socket.destroy());
    for (const socket of [client, server]) {
      this.sockets.add(socket);
      socket.on('error', () => undefined);
      socket.on('end', () => !connection.isSilent && end());
      socket.on('close', () => this.sockets.delete(socket));
    }
    client.on('data', (sent) => {
      connection.sent += sent.toString('latin1');
      const cut = [...this.cuts].find(({ text, times }) => times > 0 && sent.includes(text));
      if (cut) cut.times -= 1;
      if (cut?.at === 'request') return end();
      connection.endsAtAnswer ||= cut !== undefined;
      if (!connection.isSilent) server.write(sent);
    });
    server.on('data', (answer) => {
      if (connection.endsAtAnswer) end();
      else if (!connection.isSilent) client.write(answer);
    });
  }
}
