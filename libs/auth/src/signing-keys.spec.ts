import { generateKeyPairSync } from 'node:crypto';
import { Logger } from '@nestjs/common';
import type { Config } from '@platform/config';
import { currentContext, newContext, type RequestContext, runInContext } from '@platform/request-context';
import { Counter } from 'prom-client';
import { SigningKeys } from './signing-keys';

afterEach(() => {
  jest.restoreAllMocks();
  jest.useRealTimers();
});

it('SigningKeys say that the provider gives none, and not as if it were of the request that asked', async () => {
  const fetches = new Counter({ name: 'fetches', help: '-', labelNames: ['outcome'], registers: [] });
  const oidc = { issuer: 'http://127.0.0.1:1', jwksStaleMaxMs: 1_000 }; // nobody listens there
  const keys = new SigningKeys({ oidc } as Config, fetches);
  const said = Promise.withResolvers<RequestContext | undefined>();
  const warn = jest.spyOn(Logger.prototype, 'warn').mockImplementation(() => said.resolve(currentContext()));
  runInContext(newContext(), () => keys.onApplicationBootstrap());
  expect(await said.promise).toBeUndefined();
  expect(warn).toHaveBeenCalledWith(
    { err: expect.anything(), issuer: oidc.issuer },
    'The identity provider gives no keys: calls with a token are answered with 503',
  );
  keys.onApplicationShutdown();
});

it('SigningKeys warn once while nothing changes, and say when the provider is back', async () => {
  jest.useFakeTimers();
  const jwk = generateKeyPairSync('ec', { namedCurve: 'P-256' }).publicKey.export({ format: 'jwk' });
  let isAway = true;
  const provider = jest.spyOn(globalThis, 'fetch').mockImplementation(async (url) => {
    if (isAway) return new Response('', { status: 502 });
    return Response.json(
      url === 'http://issuer/keys' ? { keys: [jwk] } : { issuer: 'http://issuer', jwks_uri: 'http://issuer/keys' },
    );
  });
  const fetches = new Counter({ name: 'fetches', help: '-', labelNames: ['outcome'], registers: [] });
  const keys = new SigningKeys({ oidc: { issuer: 'http://issuer', jwksStaleMaxMs: 3_600_000 } } as Config, fetches);
  const warn = jest.spyOn(Logger.prototype, 'warn').mockImplementation();
  const log = jest.spyOn(Logger.prototype, 'log').mockImplementation();
  keys.onApplicationBootstrap();
  await jest.advanceTimersByTimeAsync(3_500);
  expect(provider).toHaveBeenCalledTimes(4);
  expect(warn).toHaveBeenCalledTimes(1);
  expect(warn.mock.calls[0]?.[0]).toMatchObject({
    err: { message: 'http://issuer/.well-known/openid-configuration answered 502' },
  });
  isAway = false;
  await jest.advanceTimersByTimeAsync(1_000);
  expect(log.mock.calls).toEqual([['The identity provider gives its keys again']]);
  keys.onApplicationShutdown();
});

it('SigningKeys that asked for an unknown key when the cooldown was over do not ask for the one before in the next', async () => {
  jest.useFakeTimers();
  let asked = 0;
  const jwk = generateKeyPairSync('ec', { namedCurve: 'P-256' }).publicKey.export({ format: 'jwk' });
  jest.spyOn(globalThis, 'fetch').mockImplementation(async (url) => {
    if (url !== 'http://issuer/keys') return Response.json({ issuer: 'http://issuer', jwks_uri: 'http://issuer/keys' });
    asked += 1;
    return Response.json({ keys: [jwk] });
  });
  const fetches = new Counter({ name: 'fetches', help: '-', labelNames: ['outcome'], registers: [] });
  const oidc = { issuer: 'http://issuer', jwksStaleMaxMs: 3_600_000 };
  const keys = new SigningKeys({ oidc } as Config, fetches);
  keys.onApplicationBootstrap();
  const name = (kid: string) => expect(keys.find({ alg: 'ES256', kid })).rejects.toThrow('no applicable key');
  await name('one');
  jest.advanceTimersByTime(5_000);
  // The process was busy: the cooldown is over, and its timer is still to come.
  const now = performance.now() + 5_000;
  jest.spyOn(performance, 'now').mockReturnValue(now);
  await name('another');
  expect(asked).toBe(3);
  jest.advanceTimersByTime(6_000);
  await name('a third');
  expect(asked).toBe(3);
  keys.onApplicationShutdown();
});
