import { fetchJwks } from './fetch-jwks';

describe('fetchJwks', () => {
  afterEach(() => jest.restoreAllMocks());

  it('takes no keys without TLS for an issuer that has TLS, and does not ask for them', async () => {
    const document = { issuer: 'https://id.example', jwks_uri: 'http://id.example/keys', keys: [] };
    const fetched = jest.spyOn(globalThis, 'fetch').mockImplementation(async () => Response.json(document));
    await expect(fetchJwks(document.issuer, new AbortController().signal)).rejects.toThrow('a jwks_uri without TLS');
    expect(fetched).toHaveBeenCalledTimes(1);
  });
});
