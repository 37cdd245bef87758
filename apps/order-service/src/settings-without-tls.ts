import type { Config } from '@platform/config';

/** Names of settings by which production connects, or sends a secret, without TLS. A service mesh may add it unseen. */
export function settingsWithoutTls({ env, oidc, paymentApi, kafka, redisUrl, spans }: Config): string[] {
  const isHttp = (url: string | undefined) => url?.startsWith('http:') ?? false;
  const found = {
    OIDC_ISSUER: isHttp(oidc.issuer),
    PAYMENT_API_URL: isHttp(paymentApi?.url),
    PAYMENT_API_TOKEN_URL: isHttp(paymentApi?.token?.url),
    KAFKA_SASL_PASSWORD: kafka?.sasl !== undefined && !kafka.ssl,
    REDIS_URL: redisUrl?.startsWith('redis:') && new URL(redisUrl).password !== '',
    OTEL_EXPORTER_OTLP_HEADERS: isHttp(spans?.url) && Object.keys(spans?.headers ?? {}).length > 0,
  };
  return env === 'production' ? Object.entries(found).flatMap(([name, isFound]) => (isFound ? name : [])) : [];
}
