import { Module } from '@nestjs/common';
import { makeCounterProvider, makeGaugeProvider } from '@willsoto/nestjs-prometheus';
import { CallCounter } from './call-counter';
import { ClientRateLimit } from './client-rate-limit';
import { FailedAuthentications } from './failed-authentications';

/** Limits what a client may call, and how often an address may fail to authenticate. */
@Module({
  providers: [
    CallCounter,
    ClientRateLimit,
    FailedAuthentications,
    makeCounterProvider({
      name: 'rate_limited_total',
      help: 'Calls refused because a client, or an address with bad tokens, was over its limit',
      labelNames: ['limit'],
    }),
    makeGaugeProvider({
      name: 'rate_limit_store_fallback',
      help: '1 while Redis does not answer and this process counts calls alone',
    }),
  ],
  exports: [CallCounter, ClientRateLimit, FailedAuthentications],
})
export class RateLimitModule {}
