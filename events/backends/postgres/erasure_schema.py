"""The tables and functions with which payloads are erased, as SQL; a part of `schema`.

`kept_payloads` has what stays when a payload goes: the commitment to it, in the form that every log
has in place of an erased payload (`digest.erased_payload`). A trigger computes the digest of the
event with that commitment, and refuses it if it is not the event's. Another trigger lets a payload
be deleted only if what stays of it is in `kept_payloads`. So not even the owner of the tables
loses evidence by mistake.

`unvacuumed` has the tables in which an erasure has left dead rows. They are in the files until a
VACUUM FULL has rewritten the table.
"""

from __future__ import annotations

ERASURE = r"""
-- No statistics: their samples would be copies of payloads (pg_statistic).
ALTER TABLE {schema}.payloads ALTER COLUMN data SET STATISTICS 0;

CREATE TABLE IF NOT EXISTS {schema}.kept_payloads (
    position bigint PRIMARY KEY,
    data bytea NOT NULL  -- the commitment to an erased payload, as JSON
);
ALTER TABLE {schema}.kept_payloads ALTER COLUMN data SET STATISTICS 0;

CREATE TABLE IF NOT EXISTS {schema}.unvacuumed (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    relation oid NOT NULL
);

CREATE OR REPLACE FUNCTION {schema}.check_kept() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    committed CONSTANT text := CASE WHEN octet_length(NEW.data) = 98 THEN substring(
        encode(NEW.data, 'escape')
        FROM '^\{{"\$lllm":"erased","commitment":"([0-9a-f]{{64}})"\}}$'
    ) END;
BEGIN
    IF committed IS NULL THEN
        IF TG_OP = 'INSERT' AND EXISTS (
            SELECT FROM {schema}.payloads WHERE position = NEW.position AND data = NEW.data
        ) THEN
            RETURN NEW;
        END IF;
    ELSIF EXISTS (
        SELECT FROM {schema}.events
        WHERE position = NEW.position AND digest = sha256(
            '\x00'::bytea
            || int4send(octet_length(convert_to(stream, 'UTF8'))) || convert_to(stream, 'UTF8')
            || int4send(8) || int8send(seq) || int4send(8) || int8send(time)
            || int4send(octet_length(convert_to(type, 'UTF8'))) || convert_to(type, 'UTF8')
            || int4send(8) || int8send(version) || int4send(32) || decode(committed, 'hex')
        )
    ) THEN
        RETURN NEW;
    END IF;
    RAISE EXCEPTION 'This does not fit the digest of the event at position %.', NEW.position;
END $$;

CREATE OR REPLACE FUNCTION {schema}.check_moved() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF EXISTS (
        SELECT FROM {schema}.kept_payloads WHERE position = OLD.position
        UNION ALL
        SELECT FROM {schema}.archived_leaves WHERE position = OLD.position
    ) THEN
        RETURN OLD;
    END IF;
    RAISE EXCEPTION 'The events of lllm are never changed or deleted.';
END $$;

CREATE OR REPLACE TRIGGER payloads_go_erased BEFORE DELETE ON {schema}.payloads
    FOR EACH ROW EXECUTE FUNCTION {schema}.check_moved();
CREATE OR REPLACE TRIGGER kept_payloads_fit BEFORE INSERT OR UPDATE ON {schema}.kept_payloads
    FOR EACH ROW EXECUTE FUNCTION {schema}.check_kept();
CREATE OR REPLACE TRIGGER kept_payloads_all_stay BEFORE TRUNCATE ON {schema}.kept_payloads
    FOR EACH STATEMENT EXECUTE FUNCTION {schema}.refuse_change();

-- Erases payloads; `datas` is what stays of each.
CREATE OR REPLACE FUNCTION {schema}.erase(positions bigint[], datas bytea[]) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    INSERT INTO {schema}.unvacuumed (relation)
        SELECT tableoid FROM {schema}.payloads WHERE position = ANY (positions)
        UNION
        SELECT tableoid FROM {schema}.kept_payloads WHERE position = ANY (positions);
    INSERT INTO {schema}.kept_payloads AS kept
        SELECT given.position, given.data
        FROM unnest(positions, datas) AS given (position, data)
        ON CONFLICT (position) DO UPDATE SET data = excluded.data
        WHERE kept.data IS DISTINCT FROM excluded.data;
    DELETE FROM {schema}.payloads WHERE position = ANY (positions);
$$;
REVOKE ALL ON FUNCTION {schema}.erase(bigint[], bytea[]) FROM PUBLIC;
"""
