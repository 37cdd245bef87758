import type { MigrationInterface, QueryRunner } from 'typeorm';
import { onlyForward } from '../migration-steps';

/**
 * Fixes `check_audit_block`. It sets a search path: the service's role may create temporary tables, and ones with the
 * same names would be read instead of the real tables. And it refuses a first block while the trail is empty.
 */
export class JudgeBlocksByTheTrail1764600000000 implements MigrationInterface {
  readonly name = 'JudgeBlocksByTheTrail1764600000000';
  readonly down = onlyForward;

  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
      CREATE OR REPLACE FUNCTION check_audit_block() RETURNS trigger LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
        DECLARE
          head audit_blocks;
        BEGIN
          SELECT * INTO head FROM audit_blocks ORDER BY number DESC LIMIT 1;
          IF NEW.number <> coalesce(head.number, 0) + 1
             OR NEW.last_position <= coalesce(head.last_position, 0)
             OR NEW.last_position > coalesce((SELECT max(position) FROM audit_events), 0)
             OR NEW.sealed_at NOT BETWEEN now() - interval '1 hour' AND now() + interval '1 hour' THEN
            RAISE EXCEPTION 'An audit block must follow the newest one' USING ERRCODE = 'check_violation';
          END IF;
          RETURN NEW;
        END
      $$;
    `);
  }
}
