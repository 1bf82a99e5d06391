"""The table of payloads, whole or partitioned by month, as SQL; a part of `schema`.

A partition has a range of positions, of 2**30 appends. When a month begins, the sequence `blocks`
jumps to the next range, whose table was made and committed before. So the primary key is the
position alone, and a read finds the partition by the position. An append that is under way during
the jump has a lower number, as its lock says: the jump is shorter than the 2**31 numbers that a
lock can tell apart. A month with more appends goes on in the range after it.

A partition is dropped when next to nothing is left in it. What is left moves to `kept_payloads`.
"""

from __future__ import annotations

RANGE = 1 << 30  # appends in a partition
_FEW_BYTES, _MANY_BYTES = 64 << 10, 64 << 20  # of payloads that may move when a partition goes

WHOLE = """
CREATE TABLE IF NOT EXISTS {schema}.payloads (
    position bigint PRIMARY KEY,
    data bytea NOT NULL  -- JSON, in the bytes in which it was written
);
"""

PARTITIONED = """
CREATE TABLE IF NOT EXISTS {schema}.payloads (
    position bigint PRIMARY KEY,
    data bytea NOT NULL  -- JSON, in the bytes in which it was written
) PARTITION BY RANGE (position);
"""

_FUNCTIONS = """
-- The partitions of payloads; none, if it is one table.
CREATE TABLE IF NOT EXISTS {schema}.payload_partitions (
    number bigint PRIMARY KEY,  -- of the table payloads_NUMBER
    began timestamptz  -- when it came into use, in the month that it has; NULL: it waits
);
GRANT SELECT ON {schema}.payload_partitions TO PUBLIC;

CREATE OR REPLACE FUNCTION {schema}.is_partitioned() RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT relkind = 'p' FROM pg_class WHERE oid = '{literal}.payloads'::regclass
$$;

-- Makes the tables for the range in use and the one after it.
CREATE OR REPLACE FUNCTION {schema}.make_partitions() RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET lock_timeout = '1s' AS $$
DECLARE
    current bigint;
    part bigint;
    name text;
BEGIN
    IF NOT {schema}.is_partitioned() OR NOT pg_try_advisory_xact_lock(
        '{literal}.payload_partitions'::regclass::oid::bigint::bit(32)::integer, 0
    ) THEN
        RETURN;
    END IF;
    SELECT (last_value + 1) / {range} INTO current FROM {schema}.blocks;
    FOREACH part IN ARRAY ARRAY[current, current + 1] LOOP
        name := '{literal}.payloads_' || part;
        CONTINUE WHEN to_regclass(name) IS NOT NULL;
        EXECUTE 'CREATE TABLE ' || name || ' (LIKE {literal}.payloads INCLUDING ALL)';
        EXECUTE 'ALTER TABLE ' || name || ' ALTER COLUMN data SET STATISTICS 0';
        EXECUTE 'CREATE TRIGGER partition_stays BEFORE TRUNCATE ON ' || name
            || ' FOR EACH STATEMENT EXECUTE FUNCTION {literal}.refuse_change()';
        EXECUTE 'ALTER TABLE {literal}.payloads ATTACH PARTITION ' || name
            || ' FOR VALUES FROM (' || part * {range} * {block}
            || ') TO (' || (part + 1) * {range} * {block} || ')';
        INSERT INTO {schema}.payload_partitions VALUES (part);
    END LOOP;
END $$;

-- Begins a range if a month has begun and its table is there. True if it did.
CREATE OR REPLACE FUNCTION {schema}.begin_month() RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    now CONSTANT timestamptz := clock_timestamp();
    month CONSTANT timestamptz :=
        date_trunc('month', now AT TIME ZONE 'UTC') AT TIME ZONE 'UTC';
    next bigint;
BEGIN
    IF NOT {schema}.is_partitioned()
        OR EXISTS (SELECT FROM {schema}.payload_partitions WHERE began >= month)
        OR NOT pg_try_advisory_xact_lock(
            '{literal}.payload_partitions'::regclass::oid::bigint::bit(32)::integer, 0
        )
        -- Again: another connection may have begun it meanwhile.
        OR EXISTS (SELECT FROM {schema}.payload_partitions WHERE began >= month)
    THEN
        RETURN false;
    END IF;
    SELECT CASE WHEN is_called THEN last_value / {range} + 1 ELSE 0 END
        INTO next FROM {schema}.blocks;
    UPDATE {schema}.payload_partitions SET began = now WHERE number = next;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    IF next > 0 THEN
        PERFORM setval('{literal}.blocks'::regclass, next * {range} - 1);
    END IF;
    RETURN true;
END $$;

-- Drops a partition of a month that is over if next to nothing is left in it. True if it did.
CREATE OR REPLACE FUNCTION {schema}.drop_partition(wanted oid) RETURNS boolean
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET lock_timeout = '2s' AS $$
DECLARE
    part bigint;
    remaining bigint;
BEGIN
    SELECT number INTO part FROM {schema}.payload_partitions, {schema}.blocks
        WHERE to_regclass('{literal}.payloads_' || number) = wanted
        AND number < last_value / {range};
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    EXECUTE 'SELECT coalesce(sum(octet_length(data)), 0) FROM ' || wanted::regclass INTO remaining;
    IF remaining > greatest({few}, least({many}, pg_total_relation_size(wanted) / 10)) THEN
        RETURN false;
    END IF;
    -- In the order in which readers lock them.
    LOCK TABLE ONLY {schema}.payloads IN ACCESS EXCLUSIVE MODE;
    EXECUTE 'INSERT INTO {literal}.kept_payloads SELECT position, data FROM ' || wanted::regclass
        || ' ON CONFLICT DO NOTHING';
    EXECUTE 'DROP TABLE ' || wanted::regclass;
    DELETE FROM {schema}.payload_partitions WHERE number = part;
    DELETE FROM {schema}.unvacuumed WHERE relation = wanted;
    RETURN true;
END $$;

SELECT {schema}.make_partitions();
SELECT {schema}.begin_month();
"""

PARTITIONS = (
    _FUNCTIONS.replace("{range}", f"{RANGE}")
    .replace("{few}", f"{_FEW_BYTES}")
    .replace("{many}", f"{_MANY_BYTES}")
)
