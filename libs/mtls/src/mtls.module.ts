import { type DynamicModule, Module } from '@nestjs/common';
import type { Config } from '@platform/config';
import { ClientCertificates } from './client-certificates';
import { TlsFiles } from './tls-files';
import { TrustedProxies } from './trusted-proxies';

/** TLS terminated by the service, client certificates, and the proxies that are trusted to forward them. */
@Module({})
export class MtlsModule {
  /** @throws {ConfigError} if the TLS files cannot be read or do not fit together */
  static forRoot(config: Config): DynamicModule {
    const files = new TlsFiles(config);
    const proxies = new TrustedProxies(config.trustedProxies);
    const providers = [
      { provide: TlsFiles, useValue: files },
      { provide: TrustedProxies, useValue: proxies },
      { provide: ClientCertificates, useValue: new ClientCertificates(config, proxies, files) },
    ];
    return { module: MtlsModule, global: true, providers, exports: providers };
  }
}
