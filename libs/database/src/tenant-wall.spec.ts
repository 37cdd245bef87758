import { TenantWall } from './tenant-wall';

describe('TenantWall', () => {
  const wall = new TenantWall(['orders', 'keys']);
  const refusal = (text: string, ...values: unknown[]) => wall.refusalOf('acme', text, values);

  it.each([
    'SELECT * FROM orders WHERE tenant_id = $1',
    'select * from public.orders o where o.id = 5 and o.tenant_id = $1 order by o.id limit 5 for update',
    'SELECT "o"."tenant_id" AS "o_tenant_id" FROM "orders" "o" WHERE (("o"."id" = 5) AND ("o"."tenant_id" = $1)) LIMIT 1',
    'SELECT * FROM orders WHERE tenant_id = $1::text AND (status = 5 OR status = 6)',
    'SELECT * FROM orders WHERE "case" = 5 AND tenant_id = $1 AND (CASE WHEN a AND b THEN c ELSE d END)',
    'SELECT * FROM orders JOIN keys USING (id) WHERE orders.tenant_id = $1 AND keys.tenant_id = $1',
    'SELECT * FROM outbox WHERE EXISTS (SELECT FROM orders WHERE tenant_id = $1 AND id = 5) OR true',
    'SELECT id FROM orders WHERE tenant_id = $1 UNION ALL SELECT id FROM keys WHERE tenant_id = $1',
    "SELECT * FROM orders WHERE tenant_id = $1 -- the caller's",
    'UPDATE orders SET status = 5 WHERE id = 6 AND tenant_id = $1 RETURNING *',
    'DELETE FROM orders WHERE tenant_id = $1',
    'INSERT INTO orders (id, tenant_id) VALUES (5, $1), (6, $1::text) ON CONFLICT DO NOTHING',
    'INSERT INTO public.orders (tenant_id, id) VALUES ($1, (SELECT 5))',
    'INSERT INTO orders (id, tenant_id) SELECT 5, $1, coalesce(6, 7) FROM remembered WHERE true',
    'WITH told AS (INSERT INTO outbox (id) VALUES (5)) UPDATE orders SET status = 5 WHERE tenant_id = $1',
    'INSERT INTO orders (id, tenant_id) VALUES (5, $1) ON CONFLICT (tenant_id, id) DO UPDATE SET a = 6 RETURNING tenant_id',
    'INSERT INTO orders (id, tenant_id) VALUES (5, $1) ON CONFLICT (id) DO UPDATE SET a = 6 WHERE orders.tenant_id = $1',
    'SELECT * FROM orders a JOIN orders b ON a.id = b.of WHERE a.tenant_id = $1 AND b.tenant_id = $1',
    'SELECT id FROM orders WHERE tenant_id = $1 EXCEPT SELECT id FROM orders WHERE tenant_id = $1 ORDER BY id',
    'SELECT * FROM orders AS a JOIN keys ON keys.id = a.id WHERE keys.tenant_id = $1 AND a.tenant_id = $1 FOR UPDATE OF a',
    'SELECT "order"."id" FROM "orders" "order" WHERE "order"."tenant_id" = $1 ORDER BY "order"."id"',
    'SELECT * FROM orders WHERE "offset" = 5 AND tenant_id = $1 FOR UPDATE SKIP LOCKED',
    'UPDATE orders o SET status = 5 FROM changes WHERE changes.id = o.id AND o.tenant_id = $1',
    'SELECT * FROM orders o WHERE o.tenant_id = $1 AND EXISTS (SELECT FROM keys k WHERE k.id = o.id AND k.tenant_id = $1)',
    'SELECT status, count(*) FROM orders WHERE tenant_id = $1 GROUP BY status HAVING count(*) > 5',
    'INSERT INTO orders (id, tenant_id) SELECT 5, $1 ON CONFLICT DO NOTHING',
    'SELECT * FROM orders WHERE tenant_id = $1;',
    'WITH kept AS (INSERT INTO keys (tenant_id) VALUES ($1)) INSERT INTO orders (tenant_id) SELECT $1 FROM kept',
  ])("lets pass with the caller's tenant only: %s", (text) => {
    expect(refusal(text, 'acme')).toBeUndefined();
    expect(refusal(text, 'globex')).toBe("names another tenant than the caller's");
    expect(refusal(text)).toBe("names another tenant than the caller's");
  });

  it.each([
    'SELECT 1',
    'START TRANSACTION',
    'SELECT key FROM cursor_keys',
    "INSERT INTO outbox (id, aggregatetype) VALUES (5, 'order')",
    'SELECT * FROM reorders',
  ])('lets pass what reaches no table of tenants: %s', (text) => {
    expect(refusal(text, 'anything')).toBeUndefined();
  });

  it.each([
    ['SELECT without WHERE', 'SELECT * FROM orders'],
    ['SELECT of the tenant', 'SELECT tenant_id FROM orders WHERE id = $1'],
    ['SELECT for another column', 'SELECT tenant_id FROM orders WHERE customer_id = $1'],
    ['UPDATE without WHERE', 'UPDATE orders SET status = $1'],
    ['UPDATE by id', 'UPDATE orders SET status = 5 WHERE id = $1'],
    ['DELETE without WHERE', 'DELETE FROM orders'],
    ['DELETE by id', 'DELETE FROM "orders" WHERE "id" = $1'],
    ['INSERT without tenant', 'INSERT INTO orders (id) VALUES ($1)'],
    ['INSERT without columns', 'INSERT INTO orders VALUES ($1)'],
    ['INSERT of a literal', "INSERT INTO orders (id, tenant_id) VALUES ($1, 'acme')"],
    ['INSERT with one row that has none', 'INSERT INTO orders (tenant_id) VALUES ($1), (DEFAULT)'],
    ['INSERT of what is read', 'INSERT INTO orders (tenant_id) SELECT tenant_id FROM keys WHERE tenant_id = $1'],
    ['INSERT of two reads', 'INSERT INTO orders (tenant_id) SELECT $1 UNION SELECT 5'],
    ['INSERT of two reads of tables', 'INSERT INTO orders (tenant_id) SELECT $1 FROM a UNION SELECT tenant FROM a'],
    [
      'INSERT of foreign rows, whose condition is of those that are overwritten',
      'INSERT INTO orders (tenant_id, a) SELECT $1, a FROM keys ON CONFLICT (tenant_id) DO UPDATE SET a = 6 WHERE tenant_id = $1',
    ],
    ['INSERT from a foreign row', 'INSERT INTO orders (tenant_id, a) SELECT $1, a FROM keys'],
    [
      'INSERT that gives away',
      'INSERT INTO orders (tenant_id) VALUES ($1) ON CONFLICT (id) DO UPDATE SET tenant_id = 5',
    ],
    [
      'INSERT that overwrites',
      'INSERT INTO orders (id, tenant_id) VALUES (5, $1) ON CONFLICT (id) DO UPDATE SET a = 6',
    ],
    [
      'INSERT that overwrites what a constraint finds',
      'INSERT INTO orders (id, tenant_id) VALUES (5, $1) ON CONFLICT ON CONSTRAINT one DO UPDATE SET a = 6',
    ],
    [
      'INSERT that overwrites for its own tenant whatever is there',
      'INSERT INTO orders (id, tenant_id) VALUES (5, $1) ON CONFLICT (id) DO UPDATE SET a = 6 WHERE excluded.tenant_id = $1',
    ],
    [
      'INSERT whose condition is of an index',
      'INSERT INTO orders (id, tenant_id) VALUES (5, $1) ON CONFLICT (id) WHERE tenant_id = $1 DO UPDATE SET a = 6',
    ],
    [
      'INSERT of foreign rows, whose condition is of an index',
      'INSERT INTO orders (tenant_id, a) SELECT $1, a FROM keys ON CONFLICT (id) WHERE tenant_id = $1 DO NOTHING',
    ],
    [
      'a condition of a CASE, whose other branch lets all through',
      'SELECT * FROM orders WHERE CASE WHEN a AND tenant_id = $1 AND b THEN c ELSE true END',
    ],
    [
      'one condition for two',
      'SELECT * FROM orders a JOIN orders b ON true WHERE a.tenant_id = $1 AND a.tenant_id = $1',
    ],
    [
      'two conditions in half of a union',
      'SELECT id FROM orders WHERE tenant_id = $1 AND tenant_id = $1 UNION SELECT id FROM orders',
    ],
    [
      'a condition on what a subselect gives',
      'SELECT * FROM orders o, (SELECT 5 AS tenant_id) AS mine WHERE mine.tenant_id = $1',
    ],
    [
      'a condition on what a common table gives',
      'WITH mine AS (SELECT id, tenant_id FROM keys WHERE tenant_id = $1) SELECT * FROM mine, orders o WHERE mine.tenant_id = $1',
    ],
    [
      'a condition that a correlated subselect says again',
      'SELECT * FROM orders o WHERE o.tenant_id = $1 AND EXISTS (SELECT FROM keys k WHERE k.id = o.id AND o.tenant_id = $1)',
    ],
    [
      'a condition on the row around it',
      'SELECT * FROM changes c WHERE EXISTS (SELECT FROM orders o WHERE o.id = c.id AND c.tenant_id = $1)',
    ],
    [
      'a condition on one of two that does not say which',
      'SELECT * FROM orders o JOIN keys k USING (tenant_id) WHERE tenant_id = $1',
    ],
    ['a condition on a table that has an alias', 'SELECT * FROM orders o WHERE orders.tenant_id = $1'],
    [
      'the other half of what is inserted',
      'INSERT INTO outbox (id) SELECT id FROM orders WHERE tenant_id = $1 UNION SELECT id FROM orders',
    ],
    [
      'one half of what is inserted',
      'INSERT INTO outbox (id) SELECT id FROM orders UNION SELECT id FROM orders WHERE tenant_id = $1',
    ],
    ['half of a union that begins with TABLE', 'TABLE orders UNION SELECT * FROM orders WHERE tenant_id = $1'],
    [
      'a table beside its own condition',
      'SELECT * FROM orders JOIN (TABLE orders) AS x ON true WHERE orders.tenant_id = $1',
    ],
    ['a second statement behind a good one', 'DELETE FROM orders WHERE orders.tenant_id = $1; DELETE FROM orders'],
    ['HAVING', 'SELECT id FROM orders WHERE true GROUP BY id HAVING true AND tenant_id = $1'],
    ['what is ordered by', 'SELECT id FROM orders WHERE true ORDER BY true AND tenant_id = $1'],
    ['what is returned', 'DELETE FROM orders WHERE true RETURNING true AND tenant_id = $1'],
    ['a comparison of the comparison', 'SELECT * FROM orders WHERE (tenant_id = $1) = false'],
    ['a comparison with the comparison', 'SELECT * FROM orders WHERE false = (tenant_id = $1)'],
    ['UPDATE that gives away', 'UPDATE orders SET tenant_id = 5 WHERE tenant_id = $1'],
    ['UPDATE that gives away a row', 'UPDATE orders SET (id, tenant_id) = (5, 6) WHERE tenant_id = $1'],
    ['UPDATE that takes', 'UPDATE orders SET tenant_id = $1'],
    ['MERGE', 'MERGE INTO orders USING (SELECT 1) AS x ON tenant_id = $1 WHEN MATCHED THEN DELETE'],
    ['TRUNCATE', 'TRUNCATE orders'],
    ['COPY', 'COPY orders TO STDOUT'],
    ['TABLE', 'TABLE orders'],
    ['TABLE in a WITH', 'WITH x AS (TABLE orders) SELECT * FROM x'],
    ['a subselect', 'SELECT * FROM outbox WHERE id IN (SELECT id FROM orders) AND tenant_id = $1'],
    ['a common table', 'WITH all_of AS (SELECT * FROM orders) SELECT * FROM all_of WHERE tenant_id = $1'],
    ['a second mention', 'SELECT * FROM orders a, orders b WHERE a.tenant_id = $1'],
    ['half of a union', 'SELECT id FROM orders WHERE tenant_id = $1 UNION SELECT id FROM orders'],
    ['a condition of a join', 'SELECT * FROM orders LEFT JOIN outbox ON orders.tenant_id = $1'],
    ['OR', 'SELECT * FROM orders WHERE tenant_id = $1 OR true'],
    ['OR in parentheses', 'SELECT * FROM orders WHERE (tenant_id = $1 OR true)'],
    ['OR before AND', 'SELECT * FROM orders WHERE true OR id = 5 AND tenant_id = $1'],
    ['OR behind AND', 'SELECT * FROM orders WHERE tenant_id = $1 AND id = 5 OR true'],
    ['NOT', 'SELECT * FROM orders WHERE NOT (tenant_id = $1)'],
    ['an expression', "SELECT * FROM orders WHERE tenant_id = $1 || ''"],
    ['another comparison', 'SELECT * FROM orders WHERE tenant_id <> $1'],
    ['a range', 'SELECT * FROM orders WHERE tenant_id > $1'],
    ['an expression of a cast', "SELECT * FROM orders WHERE tenant_id = $1::text || ''"],
    ['a list', 'SELECT * FROM orders WHERE tenant_id = ANY($1)'],
    ['a comment', 'SELECT * FROM orders -- WHERE tenant_id = $1'],
    ['a longer comment', 'SELECT * FROM orders /* WHERE tenant_id = $1 */'],
    ['a literal', "SELECT 'WHERE tenant_id = $1' FROM orders"],
    ['code in a literal', "DO 'BEGIN DELETE FROM orders; END'"],
    ['code in dollar quotes', 'DO $$ BEGIN DELETE FROM orders; END $$'],
    ['a prepared statement', 'PREPARE theft AS SELECT * FROM orders'],
    ['a second statement', 'SELECT 1; DELETE FROM orders'],
    ['upper case', 'SELECT * FROM ORDERS'],
  ])('refuses %s', (_, text) => {
    expect(refusal(text, 'acme')).toMatch(/^(reaches|gives)/);
  });

  it('refuses to overwrite the row of another tenant than the one that is inserted', () => {
    const text =
      'INSERT INTO orders (id, tenant_id) VALUES (5, $1) ON CONFLICT (id) DO UPDATE SET a = 6 WHERE orders.tenant_id = $2';
    expect(refusal(text, 'acme', 'acme')).toBeUndefined();
    expect(refusal(text, 'acme', 'globex')).toBe("names another tenant than the caller's");
  });

  it('judges a text anew for each tenant, also when it has seen many texts since', () => {
    const text = 'SELECT * FROM orders WHERE tenant_id = $1';
    for (let more = 0; more < 2_500; more += 1) expect(refusal(`SELECT ${more}`)).toBeUndefined();
    expect(refusal(text, 'acme')).toBeUndefined();
    expect(wall.refusalOf('globex', text, ['acme'])).toBeDefined();
    expect(wall.refusalOf('globex', text, ['globex'])).toBeUndefined();
  });

  it.each([
    ['SELECT * FROM orders o JOIN outbox ON outbox.id = o.id WHERE o.tenant_id = $1', undefined],
    ['SELECT * FROM orders', 'orders'],
    ['SELECT * FROM orders o JOIN payments p ON p.order_id = o.id WHERE p.tenant_id = $1', 'o'],
    ['INSERT INTO orders (tenant_id) VALUES ($1), (DEFAULT)', 'what it inserts'],
    ["DO 'DELETE FROM orders WHERE customer = 5'", 'a literal'],
  ])('says of what %s lacks the tenant', (text, name) => {
    const reason = name === undefined ? undefined : `reaches a table of tenants without tenant_id = $n: ${name}`;
    expect(refusal(text, 'acme')).toBe(reason);
  });
});
