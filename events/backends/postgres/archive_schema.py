"""The table and function with which events leave the log for an archive; a part of `schema`.

`archived_leaves` has the digests of events that left. A trigger lets an event be deleted only if
its digest is there, and another lets a digest in only if it is that of a stored event. So not even
the owner of the tables loses evidence by mistake.
"""

from __future__ import annotations

ARCHIVE_FORMAT = 3  # of a log from which events have left; earlier versions would miss them

ARCHIVE = """
CREATE TABLE IF NOT EXISTS {schema}.archived_leaves (
    position bigint PRIMARY KEY,
    digest bytea NOT NULL
);
GRANT SELECT ON {schema}.archived_leaves TO PUBLIC;

CREATE OR REPLACE FUNCTION {schema}.check_leaf() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF EXISTS (
        SELECT FROM {schema}.events WHERE position = NEW.position AND digest = NEW.digest
    ) THEN
        RETURN NEW;
    END IF;
    RAISE EXCEPTION 'There is no event with this digest at position %.', NEW.position;
END $$;

CREATE OR REPLACE FUNCTION {schema}.check_archived() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF EXISTS (SELECT FROM {schema}.archived_leaves WHERE position = OLD.position) THEN
        RETURN OLD;
    END IF;
    RAISE EXCEPTION 'The events of lllm are never changed or deleted.';
END $$;

CREATE OR REPLACE TRIGGER archived_leaves_fit BEFORE INSERT ON {schema}.archived_leaves
    FOR EACH ROW EXECUTE FUNCTION {schema}.check_leaf();
CREATE OR REPLACE TRIGGER archived_leaves_stay BEFORE UPDATE OR DELETE ON {schema}.archived_leaves
    FOR EACH ROW EXECUTE FUNCTION {schema}.refuse_change();
CREATE OR REPLACE TRIGGER archived_leaves_all_stay BEFORE TRUNCATE ON {schema}.archived_leaves
    FOR EACH STATEMENT EXECUTE FUNCTION {schema}.refuse_change();
CREATE OR REPLACE TRIGGER events_go_archived BEFORE DELETE ON {schema}.events
    FOR EACH ROW EXECUTE FUNCTION {schema}.check_archived();
CREATE OR REPLACE TRIGGER kept_payloads_stay BEFORE DELETE ON {schema}.kept_payloads
    FOR EACH ROW EXECUTE FUNCTION {schema}.check_archived();

-- Removes events, and keeps their digests. Returns the position of the first event that is not the
-- given one; then nothing is removed.
CREATE OR REPLACE FUNCTION {schema}.remove_events(positions bigint[], digests bytea[])
RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    wrong bigint;
BEGIN
    SELECT min(given.position) INTO wrong
        FROM unnest(positions, digests) AS given (position, digest)
        LEFT JOIN {schema}.events AS stored USING (position)
        LEFT JOIN {schema}.archived_leaves AS leaf USING (position)
        WHERE coalesce(stored.digest, leaf.digest) IS DISTINCT FROM given.digest;
    IF wrong IS NOT NULL THEN
        RETURN wrong;
    END IF;
    INSERT INTO {schema}.archived_leaves
        SELECT position, digest FROM {schema}.events WHERE position = ANY (positions);
    INSERT INTO {schema}.unvacuumed (relation)
        SELECT tableoid FROM {schema}.payloads WHERE position = ANY (positions)
        UNION
        SELECT tableoid FROM {schema}.kept_payloads WHERE position = ANY (positions);
    DELETE FROM {schema}.payloads WHERE position = ANY (positions);
    DELETE FROM {schema}.kept_payloads WHERE position = ANY (positions);
    DELETE FROM {schema}.events WHERE position = ANY (positions);
    UPDATE {schema}.format SET version = {archive_format} WHERE version < {archive_format};
    RETURN NULL;
END $$;
REVOKE ALL ON FUNCTION {schema}.remove_events(bigint[], bytea[]) FROM PUBLIC;
"""
