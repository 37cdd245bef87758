export type { ClientCertificate, Principal } from './principal';
export {
  currentContext,
  newContext,
  requestIdOf,
  orderIdOf,
  runInContext,
  type RequestContext,
} from './request-context';
export { requestContextMiddleware } from './request-context.middleware';
export { childOf, parseTraceparent, traceparent, type TraceContext } from './trace-context';
