import { once } from 'node:events';
import http, { type IncomingMessage } from 'node:http';
import https from 'node:https';
import type { IssuedCertificate } from '../../apps/sandbox/src/certificate-authority';
import { type Answer, whileBusy } from './client';

interface TlsCall {
  readonly token?: string;
  readonly method?: string;
  /** A name with several values is sent as several headers. */
  readonly headers?: Record<string, string | string[]>;
  readonly body?: string;
  /** The path as it is sent; by default that of the URL, which is normalized. */
  readonly path?: string;
  /** PEM of the CA whom the client trusts. */
  readonly ca?: string;
  readonly certificate?: IssuedCertificate;
  /** By default each call has a connection of its own. */
  readonly agent?: https.Agent;
}

/**
 * Calls `url` as a client that has a certificate, or as a proxy that forwards one, and again {@link whileBusy while the
 * machine is busy}.
 */
export function tlsCall(url: string, call: TlsCall = {}): Promise<Answer> {
  return whileBusy(() => tlsCallOnce(url, call));
}

async function tlsCallOnce(url: string, call: TlsCall): Promise<Answer> {
  const { token, method, body, ca, certificate, agent = false } = call;
  const headers = { ...call.headers, ...(token !== undefined && { authorization: `Bearer ${token}` }) };
  const options = {
    method: method ?? (body === undefined ? 'GET' : 'POST'),
    headers,
    agent,
    ...(call.path !== undefined && { path: call.path }),
  };
  const req = url.startsWith('https:')
    ? https.request(url, { ...options, ca, cert: certificate?.cert, key: certificate?.key })
    : http.request(url, { ...options, agent: false });
  req.end(body);
  const [res] = (await once(req, 'response')) as [IncomingMessage];
  const text = Buffer.concat((await res.toArray()) as Buffer[]).toString();
  const isJson = /json/.test(res.headers['content-type'] ?? '');
  return {
    status: res.statusCode ?? 0,
    headers: new Headers(Object.entries(res.headers).map(([name, value]) => [name, String(value)])),
    text,
    body: isJson ? JSON.parse(text) : undefined,
  };
}
