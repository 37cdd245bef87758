import { RefusedAs } from '@platform/validation';
import { PageCursor } from './page-cursor';
import { PageQuery } from './page.query';

@RefusedAs({ code: 'ORDER_VALIDATION_FAILED', message: 'Invalid query' })
class Query extends PageQuery {
  constructor(override readonly cursor?: string) {
    super();
  }
}

const ID = '017f22e2-79b0-7cc3-98c4-dc0c0c07398f';

describe('PageCursor', () => {
  let readKey: jest.Mock<Promise<object[]>, []>;
  let pages: PageCursor;

  beforeEach(() => {
    readKey = jest.fn(async () => [{ key: Buffer.alloc(32, 1) }]);
    const database = { run: (work: (manager: object) => unknown) => work({ query: readKey }) };
    pages = new PageCursor(database as never);
  });

  /** @returns its cursor of the next page, and where the page itself began */
  async function page(path: string, tenantId: string, cursor?: string) {
    let begin: string | undefined;
    const { links } = await pages.page(path, tenantId, new Query(cursor), async (_, beforeId) => {
      begin = beforeId;
      return { items: [], nextBeforeId: ID };
    });
    return { begin, next: new URL(links.next ?? '', 'http://any').searchParams.get('cursor') ?? undefined };
  }

  it('begins where the page before ended, and reads the key once', async () => {
    const { next } = await page('/v1/orders', 'acme');
    expect(await page('/v1/orders', 'acme', next)).toEqual({ begin: ID.replaceAll('-', ''), next });
    expect(readKey).toHaveBeenCalledTimes(1);
  });

  it('reads the key again for the next page when it could not be read', async () => {
    readKey.mockRejectedValueOnce(new Error('away'));
    await expect(page('/v1/orders', 'acme')).rejects.toThrow('away');
    expect((await page('/v1/orders', 'acme')).next).toEqual(expect.any(String));
  });

  it.each([
    ['at another path', '/v1/audit-events', 'acme'],
    ['by another tenant', '/v1/orders', 'globex'],
  ])('refuses a cursor that comes back %s', async (_, path, tenantId) => {
    const { next } = await page('/v1/orders', 'acme');
    await expect(page(path, tenantId, next)).rejects.toMatchObject({
      code: 'ORDER_VALIDATION_FAILED',
      details: [{ field: 'cursor' }],
    });
  });
});
