export type { ClientCertificate, Principal } from './principal';
export { currentContext, newContext, requestIdOf, runInContext, type RequestContext } from './request-context';
export { requestContextMiddleware } from './request-context.middleware';
export { parseTraceparent, traceparent, type TraceContext } from './trace-context';
