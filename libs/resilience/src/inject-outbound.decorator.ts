import { Inject } from '@nestjs/common';

/** Injection token of the client of a dependency. */
export const outboundToken = (name: string) => `OUTBOUND_${name}`;

/** Injects the `OutboundClient` that `ResilienceModule.forDependency(name, …)` provides. */
export const InjectOutbound = (name: string) => Inject(outboundToken(name));
