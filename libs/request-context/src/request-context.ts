import { AsyncLocalStorage } from 'node:async_hooks';
import { randomUUID } from 'node:crypto';
import type { ClientCertificate, Principal } from './principal';
import { childOf, parseTraceparent, type TraceContext } from './trace-context';

/**
 * What is known about the current work: a request, a job or a consumed event. Logs, errors and outbox rows use it.
 * Optional properties are filled in as they become known.
 */
export interface RequestContext {
  readonly requestId: string;
  readonly trace: TraceContext;
  /** IP address of the client, as forwarded by trusted proxies. */
  address?: string;
  certificate?: ClientCertificate;
  /** The action that the audit trail records. */
  action?: string;
  principal?: Principal;
  orderId?: string;
}

const storage = new AsyncLocalStorage<RequestContext>();

const REQUEST_ID = /^[A-Za-z0-9._-]{1,128}$/;

/** A context that continues `origin`: takes over its request id, if that is well-formed, and its trace. */
export function newContext(origin: { requestId?: string; traceparent?: string } = {}): RequestContext {
  return {
    requestId: requestIdOf(origin.requestId),
    trace: childOf(parseTraceparent(origin.traceparent)),
  };
}

/** @param given the caller's `X-Request-Id`; returned if it is well-formed, otherwise a new id is made */
export function requestIdOf(given: string | string[] | undefined): string {
  return typeof given === 'string' && REQUEST_ID.test(given) ? given : `req-${randomUUID()}`;
}

const ORDER_ID = /^ord_[0-9a-z]{26}$/;

/** @returns `given` if it has the form of an order id */
export function orderIdOf(given: unknown): string | undefined {
  return typeof given === 'string' && ORDER_ID.test(given) ? given : undefined;
}

/** Runs `work` so that everything it calls, awaits or schedules has `context` as its current one. */
export function runInContext<T>(context: RequestContext, work: () => T): T {
  return storage.run(context, work);
}

/** The context of the current work; undefined outside of any, for example at start. */
export function currentContext(): RequestContext | undefined {
  return storage.getStore();
}
