import { Logger } from '@nestjs/common';
import type { Config } from '@platform/config';
import { currentContext, newContext, type RequestContext, runInContext } from '@platform/request-context';
import { Counter } from 'prom-client';
import { SigningKeys } from './signing-keys';

it('SigningKeys say that the provider gives none, and not as if it were of the request that asked', async () => {
  const fetches = new Counter({ name: 'fetches', help: '-', labelNames: ['outcome'], registers: [] });
  const oidc = { issuer: 'http://127.0.0.1:1', jwksStaleMaxMs: 1_000 }; // nobody listens there
  const keys = new SigningKeys({ oidc } as Config, fetches);
  const said = Promise.withResolvers<RequestContext | undefined>();
  const warn = jest.spyOn(Logger.prototype, 'warn').mockImplementation(() => said.resolve(currentContext()));
  runInContext(newContext(), () => keys.onApplicationBootstrap());
  expect(await said.promise).toBeUndefined();
  expect(warn).toHaveBeenCalledWith({ err: expect.anything() }, 'The identity provider did not give its keys');
  keys.onApplicationShutdown();
  warn.mockRestore();
});
