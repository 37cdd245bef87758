import { constants } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { Server } from 'node:https';
import { Logger, type OnApplicationShutdown } from '@nestjs/common';
import { type Config, ConfigError } from '@platform/config';
import { Gauge } from 'prom-client';
import { ClientAuthorities } from './client-authorities';
import { type TlsContents, tlsFilesOf, type TlsMaterial, tlsMaterial, type TlsVariable } from './tls-material';

/** Files are polled by content, because Kubernetes updates a mounted secret by replacing a symbolic link. */
const POLL_MS = 2_000;

/** With session tickets, a certificate would be accepted until its ticket expires, whatever happens to it or its CA. */
const SECURE_OPTIONS = constants.SSL_OP_NO_TICKET | constants.SSL_OP_NO_RENEGOTIATION;

const expiry = new Gauge({
  name: 'tls_certificate_expiry_timestamp_seconds',
  help: 'When the certificate in use ends; of several CAs the first',
  labelNames: ['certificate'],
});

/** The certificate, the key and the client CAs in use. Changed files take effect without a restart. */
export class TlsFiles implements OnApplicationShutdown {
  private readonly logger = new Logger(TlsFiles.name);
  private readonly files: readonly [TlsVariable, string][];
  private timer: NodeJS.Timeout | undefined;
  private polling: Promise<void> | undefined;
  private server: Server | undefined;
  private seen: string;
  private material: TlsMaterial;
  private authorities: ClientAuthorities | undefined;

  /** @throws {ConfigError} if the files cannot be read or do not fit together */
  constructor(config: Config) {
    this.files = tlsFilesOf(config);
    const contents = Object.fromEntries(this.files.map(([variable, file]) => [variable, readNow(file)]));
    const read = tlsMaterial(contents);
    if ('faults' in read) throw new ConfigError(read.faults);
    this.seen = JSON.stringify(contents);
    this.use(read.material);
  }

  /** The accepted issuers of client certificates; undefined if the proxy alone decides. */
  get clientAuthorities(): ClientAuthorities | undefined {
    return this.authorities;
  }

  /** Gives the server the files' contents, if it is a TLS server, and watches the files from now on. */
  attachTo(server: unknown): void {
    if (server instanceof Server) this.server = server;
    this.applyToServer();
    if (this.files.length > 0) this.timer = setInterval(() => this.poll(), POLL_MS).unref();
  }

  onApplicationShutdown(): void {
    clearInterval(this.timer);
  }

  /** One read at a time: of two, the older one could end last. */
  private poll(): void {
    this.polling ??= this.reloadIfChanged()
      .catch((error: unknown) => this.logger.error({ err: error }, 'The TLS files could not be checked for changes'))
      .finally(() => {
        this.polling = undefined;
      });
  }

  private async reloadIfChanged(): Promise<void> {
    const contents = await this.read();
    const seen = JSON.stringify(contents);
    if (seen === this.seen) return;
    // Read twice: the files may be replaced during a read, which then gets a mix of old and new.
    if (JSON.stringify(await this.read()) !== seen) return;
    this.seen = seen;
    const found = tlsMaterial(contents);
    if ('faults' in found) {
      this.logger.error(
        { faults: found.faults },
        'The TLS files have changed and are wrong: the old contents stay in use',
      );
      return;
    }
    this.use(found.material);
    this.logger.log('The TLS files have changed: the new contents are in use');
  }

  private async read(): Promise<TlsContents> {
    const read = this.files.map(async ([variable, file]) => [variable, await readFile(file, 'utf8').catch(() => null)]);
    return Object.fromEntries(await Promise.all(read)) as TlsContents;
  }

  private use(material: TlsMaterial): void {
    const { server, clientCa } = material;
    this.material = material;
    this.authorities = clientCa && new ClientAuthorities(clientCa.certificates);
    this.applyToServer();
    if (server) expiry.set({ certificate: 'server' }, server.certificate.validToDate.getTime() / 1_000);
    if (clientCa) {
      const ends = clientCa.certificates.map(({ validToDate }) => validToDate.getTime() / 1_000);
      expiry.set({ certificate: 'client_ca' }, Math.min(...ends));
    }
  }

  /** Applies to new connections; existing ones keep their certificate. */
  private applyToServer(): void {
    const { server, clientCa } = this.material;
    const { cert, key } = server ?? {};
    this.server?.setSecureContext({
      cert,
      key,
      ca: clientCa?.pem,
      minVersion: 'TLSv1.2',
      secureOptions: SECURE_OPTIONS,
    });
  }
}

function readNow(file: string): string | null {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return null;
  }
}
