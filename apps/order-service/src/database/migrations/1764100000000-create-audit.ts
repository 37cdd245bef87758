import type { MigrationInterface, QueryRunner } from 'typeorm';
import { onlyForward } from '../migration-steps';

/** The audit trail, the blocks that chain it, and a counter of erasures per pseudonym. */
export class CreateAudit1764100000000 implements MigrationInterface {
  readonly name = 'CreateAudit1764100000000';
  readonly down = onlyForward;

  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
      CREATE TABLE audit_events (
        -- Before position, so that a transaction has its id before its rows get positions. The sealer relies on that.
        transaction  xid8 NOT NULL DEFAULT pg_current_xact_id(),
        position     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        id           uuid NOT NULL,               -- UUIDv7
        occurred_at  timestamptz NOT NULL,
        tenant_id    text,                        -- null for calls that were not authenticated
        client_id    text,                        -- null for those, and where the service acted on its own
        action       text NOT NULL,
        object       text,                        -- an order id or a customer's pseudonym, never personal data
        outcome      text NOT NULL CHECK (outcome IN ('succeeded', 'refused')),
        status_code  smallint,
        error_code   text,
        request_id   text,
        address      text,
        certificate  text
      );
      -- Unique, so that a batch can be written again when the answer to its commit was lost.
      CREATE UNIQUE INDEX audit_events_by_tenant ON audit_events (tenant_id, id) NULLS NOT DISTINCT;
      CREATE INDEX audit_events_by_object ON audit_events (object, id) WHERE object IS NOT NULL;

      -- Nearly all events have one of these two actions: lists of them find enough rows without an index.
      CREATE INDEX audit_events_by_action ON audit_events (tenant_id, action, id)
        WHERE action NOT IN ('order.create', 'order.confirm');

      CREATE TABLE audit_blocks (
        number        bigint PRIMARY KEY,
        sealed_at     timestamptz(3) NOT NULL,
        last_position bigint NOT NULL UNIQUE,
        event_ids     uuid[] NOT NULL,
        event_macs    bytea NOT NULL,
        previous      bytea NOT NULL,
        mac           bytea NOT NULL
      );

      -- The service may insert blocks, and blocks decide what may be pruned: so made-up ones are refused.
      CREATE FUNCTION check_audit_block() RETURNS trigger LANGUAGE plpgsql AS $$
        DECLARE
          head audit_blocks;
        BEGIN
          SELECT * INTO head FROM audit_blocks ORDER BY number DESC LIMIT 1;
          IF NEW.number <> coalesce(head.number, 0) + 1
             OR NEW.last_position <= coalesce(head.last_position, 0)
             OR NEW.last_position > (SELECT max(position) FROM audit_events)
             OR NEW.sealed_at NOT BETWEEN now() - interval '1 hour' AND now() + interval '1 hour' THEN
            RAISE EXCEPTION 'An audit block must follow the newest one' USING ERRCODE = 'check_violation';
          END IF;
          RETURN NEW;
        END
      $$;
      CREATE TRIGGER check_audit_block BEFORE INSERT ON audit_blocks
        FOR EACH ROW EXECUTE FUNCTION check_audit_block();

      -- Number of customer.erased events of each pseudonym: the sequence of its latest one.
      CREATE TABLE erasures (
        tenant_id text NOT NULL,
        pseudonym text NOT NULL,
        times     integer NOT NULL,
        PRIMARY KEY (tenant_id, pseudonym)
      );

      -- The only way for the service to delete audit events: whole blocks, oldest first, and none that was sealed less
      -- than 30 days ago, whatever the caller asks for. The blocks stay, so that the chain can be verified.
      CREATE FUNCTION prune_audit_events(before timestamptz, most_blocks integer) RETURNS bigint
      LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp
      AS $$
        WITH ended AS (
          SELECT max(last_position) AS position
          FROM (
            SELECT last_position FROM audit_blocks
            WHERE sealed_at < least(before, now() - interval '30 days')
              AND last_position >= (SELECT min(position) FROM audit_events)
            ORDER BY last_position LIMIT most_blocks
          ) AS old
        ), gone AS (
          DELETE FROM audit_events WHERE position <= (SELECT position FROM ended) RETURNING 1
        )
        SELECT count(*) FROM gone
      $$;
      REVOKE ALL ON FUNCTION prune_audit_events FROM PUBLIC;
    `);
  }
}
