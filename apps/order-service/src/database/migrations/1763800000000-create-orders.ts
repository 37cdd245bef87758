import type { MigrationInterface, QueryRunner } from 'typeorm';
import { onlyForward } from '../migration-steps';

/** Orders, the answers that are remembered for idempotency keys, and the outbox. */
export class CreateOrders1763800000000 implements MigrationInterface {
  readonly name = 'CreateOrders1763800000000';
  readonly down = onlyForward;

  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
      CREATE TABLE orders (
        id             uuid PRIMARY KEY,          -- UUIDv7: new orders go to the right edge of every index
        tenant_id      text NOT NULL,
        client_id      text NOT NULL,
        customer_id    text NOT NULL,
        status         text NOT NULL CHECK (status IN ('PENDING', 'CONFIRMED', 'REJECTED', 'CANCELLED')),
        currency       text NOT NULL,
        total_value    numeric NOT NULL,          -- no scale: keeps the decimals as given
        items          jsonb NOT NULL,
        metadata       jsonb,
        version        integer NOT NULL,          -- raised by every change: the ETag
        event_sequence integer NOT NULL,          -- ce_sequence of its latest event
        created_at     timestamptz NOT NULL,
        updated_at     timestamptz NOT NULL,
        -- Size of items and metadata: limits the pages of lists without reading them.
        bytes          integer NOT NULL GENERATED ALWAYS AS
                         (octet_length(items::text) + coalesce(octet_length(metadata::text), 0)) STORED
      );
      -- One index for each way to filter lists, in the order of the list: see order-list.ts.
      CREATE INDEX orders_by_tenant ON orders (tenant_id, id NULLS FIRST);
      CREATE INDEX orders_by_status ON orders (tenant_id, status, id NULLS FIRST);
      CREATE INDEX orders_by_customer ON orders (tenant_id, customer_id, status, id NULLS FIRST);

      CREATE TABLE idempotency_keys (
        tenant_id       text NOT NULL,
        client_id       text NOT NULL,
        route           text NOT NULL,
        key             bytea NOT NULL,           -- SHA-256: clients put anything into keys
        fingerprint     bytea NOT NULL,
        response_body   text NOT NULL,            -- text, not jsonb: a replay gives the same bytes
        created_at      timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (tenant_id, client_id, route, key)
      );

      -- id, aggregatetype, aggregateid, type and payload are what Debezium's outbox event router reads.
      CREATE TABLE outbox (
        position      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        id            uuid NOT NULL,
        aggregatetype text NOT NULL,
        aggregateid   text NOT NULL,
        type          text NOT NULL,
        payload       json NOT NULL,
        sequence      integer NOT NULL,
        traceparent   text,
        request_id    text,
        lane          smallint GENERATED ALWAYS AS ((hashtextextended(aggregateid, 0) & 15)::smallint) STORED,
        created_at    timestamptz NOT NULL DEFAULT now(),
        published_at  timestamptz
      ) WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000);
      CREATE INDEX outbox_unpublished ON outbox (position) WHERE published_at IS NULL;

      CREATE TABLE outbox_parked (
        aggregateid text PRIMARY KEY,
        position    bigint NOT NULL,
        reason      text NOT NULL,
        parked_at   timestamptz NOT NULL DEFAULT now()
      );

      -- One key that all processes share and nobody configures. It keeps clients from forging page cursors; it
      -- protects no data.
      CREATE TABLE cursor_keys (
        key bytea NOT NULL
      );
      INSERT INTO cursor_keys (key)
      VALUES (sha256((gen_random_uuid()::text || gen_random_uuid()::text)::bytea));
    `);
  }
}
