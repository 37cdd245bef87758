import { AsyncLocalStorage } from 'node:async_hooks';
import { randomUUID } from 'node:crypto';
import type { ClientCertificate, Principal } from './principal';
import { childOf, parseTraceparent, type TraceContext } from './trace-context';

/**
 * What is known of the work under way: a request, a job or a consumed event. Logs, errors and outbox rows read it.
 * What is optional is filled in as it becomes known.
 */
export interface RequestContext {
  readonly requestId: string;
  readonly trace: TraceContext;
  /** Where the request came from, behind proxies that are trusted: an IP address. */
  address?: string;
  certificate?: ClientCertificate;
  /** What the request is about to do, as the audit trail names it. */
  action?: string;
  principal?: Principal;
  orderId?: string;
}

const storage = new AsyncLocalStorage<RequestContext>();

const REQUEST_ID = /^[A-Za-z0-9._-]{1,128}$/;

/** A context that continues `origin`: its request id where that is well-formed, its trace where there is one. */
export function newContext(origin: { requestId?: string; traceparent?: string } = {}): RequestContext {
  return {
    requestId: requestIdOf(origin.requestId),
    trace: childOf(parseTraceparent(origin.traceparent)),
  };
}

/** @param given what the caller sent as `X-Request-Id`: it is taken where it is well-formed */
export function requestIdOf(given: string | string[] | undefined): string {
  return typeof given === 'string' && REQUEST_ID.test(given) ? given : `req-${randomUUID()}`;
}

const ORDER_ID = /^ord_[0-9a-z]{26}$/;

/** @returns what was given, if an order can be named so */
export function orderIdOf(given: string | undefined): string | undefined {
  return given !== undefined && ORDER_ID.test(given) ? given : undefined;
}

/** Runs `work` so that everything it calls, awaits or schedules finds `context`. */
export function runInContext<T>(context: RequestContext, work: () => T): T {
  return storage.run(context, work);
}

/** The context of the work under way; undefined outside of any, for example while the process starts. */
export function currentContext(): RequestContext | undefined {
  return storage.getStore();
}
