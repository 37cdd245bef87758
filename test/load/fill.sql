-- Fills an empty, migrated database with what two years of service leave behind:
--
--   psql DATABASE_URL -v orders=1000000 -f test/load/fill.sql
--
-- Of the tenants acme has 90 % of the orders, globex 9 %, and 20 small ones share the rest, each with 1,000 customers of
-- very different sizes. Of the orders 95 % are CONFIRMED and 3 % CANCELLED, the last 100 are PENDING and all others
-- REJECTED. Idempotency keys, events and consumed events are those of the last day, audit events those of the last
-- million orders. Ids are UUIDv7, put together here because only PostgreSQL 18 has uuidv7().
\set ON_ERROR_STOP on
\timing on

INSERT INTO orders (id, tenant_id, client_id, customer_id, status, currency, total_value, items, metadata, version,
                    event_sequence, created_at, updated_at, payment_id, payment_status)
SELECT id, tenant, tenant || '-orchestrator', 'cust_' || floor(1000 * power(random(), 2)), status, 'USD', 129.99,
       '[{"sku": "ABC-001", "quantity": 2, "unitPrice": "49.99"}, {"sku": "XYZ-777", "quantity": 1, "unitPrice": "30.01"}]',
       '{"sourceSystem": "order-orchestrator"}',
       CASE status WHEN 'PENDING' THEN 1 WHEN 'CANCELLED' THEN 3 ELSE 2 END,
       CASE status WHEN 'PENDING' THEN 1 WHEN 'CANCELLED' THEN 3 ELSE 2 END,
       moment, moment,
       CASE WHEN status <> 'PENDING' THEN 'pay_' || substr(id::text, 1, 8) END,
       CASE status WHEN 'CONFIRMED' THEN 'AUTHORIZED' WHEN 'REJECTED' THEN 'DECLINED' WHEN 'CANCELLED' THEN 'VOIDED' END
FROM (
  SELECT ('0' || to_hex((extract(epoch FROM moment) * 1000)::bigint) || '7' || substr(gen_random_uuid()::text, 16))::uuid
           AS id, moment,
         CASE WHEN share < 0.90 THEN 'acme' WHEN share < 0.99 THEN 'globex' ELSE 'small-' || n % 20 END AS tenant,
         CASE WHEN n > :orders - 100 THEN 'PENDING' WHEN luck < 0.95 THEN 'CONFIRMED' WHEN luck < 0.98 THEN 'CANCELLED'
              ELSE 'REJECTED' END AS status
  FROM (
    SELECT n, random() AS share, random() AS luck,
           date_trunc('milliseconds', now() - make_interval(secs => (:orders - n) * 63072000.0 / :orders)) AS moment
    FROM generate_series(1, :orders) AS n
  ) AS drawn
) AS made;

INSERT INTO payments (order_id, asked_at, created_at)
SELECT id, created_at, created_at FROM orders WHERE status <> 'PENDING' ORDER BY id;

INSERT INTO idempotency_keys (tenant_id, client_id, route, key, fingerprint, response_body, created_at)
SELECT tenant_id, client_id, 'POST /v1/orders', sha256(id::text::bytea), sha256(customer_id::bytea),
       '{"orderId":"ord_01jfw9v6k3f0qv8w2m4x5y6z7a","status":"PENDING","createdAt":"2026-01-01T00:00:00.000Z",' ||
       '"links":{"self":"/v1/orders/ord_01jfw9v6k3f0qv8w2m4x5y6z7a"}}', created_at
FROM orders WHERE created_at > now() - interval '1 day' ORDER BY id;

INSERT INTO outbox (id, aggregatetype, aggregateid, type, payload, sequence, created_at, published_at)
SELECT gen_random_uuid(), 'order', 'ord_' || translate(id::text, '-', ''), type,
       json_build_object('customerId', customer_id, 'items', items, 'metadata', metadata), sequence, created_at, created_at
FROM orders, (VALUES (1, 'order.created'), (2, 'order.confirmed')) AS event (sequence, type)
WHERE created_at > now() - interval '1 day' ORDER BY orders.id;

INSERT INTO inbox (consumer, event_id, consumed_at)
SELECT 'payments', 'evt_' || translate(id::text, '-', ''), created_at FROM orders
WHERE created_at > now() - interval '1 day' ORDER BY id;

INSERT INTO audit_events (id, occurred_at, tenant_id, client_id, action, object, outcome, status_code, request_id, address)
SELECT id, created_at, tenant_id, client_id, 'order.create', 'ord_' || translate(id::text, '-', ''), 'succeeded', 201,
       gen_random_uuid(), '192.0.2.1'
FROM (SELECT * FROM orders ORDER BY id DESC LIMIT 1000000) AS latest ORDER BY id;

VACUUM (ANALYZE);
