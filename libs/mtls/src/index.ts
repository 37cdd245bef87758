export { CertificateRefused } from './certificate-refused';
export { ClientCertificates } from './client-certificates';
export { dropForgedCertificates } from './forged-certificate.middleware';
export { httpsOptions } from './https-options';
export { MtlsModule } from './mtls.module';
export { TlsFiles } from './tls-files';
export { TrustedProxies } from './trusted-proxies';
