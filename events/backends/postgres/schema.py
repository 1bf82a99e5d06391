"""The tables and functions of a log in PostgreSQL, as SQL.

`events` has the envelopes and `payloads` the payloads, byte for byte. A payload is a bytea, because
text refuses NUL, and jsonb reorders keys and refuses lone surrogates.

Positions: each append draws one number of the sequence `blocks`, which gives it BLOCK positions.
Before that, it takes a shared advisory lock, whose key is the last number that was drawn. All
numbers that it draws afterwards are higher. The lock is released after the transaction has become
visible, or has failed. So `head` reads, in this order, which events are visible and which locks are
held: up to the lowest number in a lock, no event can appear any more. Nobody waits for anybody, and
commits are grouped (https://www.postgresql.org/docs/current/wal-async-commit.html, commit_delay).
"""

from __future__ import annotations

from lllm.events.backends.postgres.archive_schema import ARCHIVE, ARCHIVE_FORMAT
from lllm.events.backends.postgres.erasure_schema import ERASURE
from lllm.events.backends.postgres.partition_schema import PARTITIONED, PARTITIONS, WHOLE

FORMAT = 2  # 2 has `kept_payloads`, to which erasures move what stays
NEWEST_FORMAT = ARCHIVE_FORMAT
BLOCK = 1 << 16  # positions of one append, which is the greatest number of its events
CONFLICT = "LL001"  # the SQLSTATE of an append with another event at a stored event's place

_DDL = """
CREATE TABLE IF NOT EXISTS {schema}.format (version integer NOT NULL);
GRANT SELECT ON {schema}.format TO PUBLIC;

CREATE SEQUENCE IF NOT EXISTS {schema}.blocks AS bigint MAXVALUE 70368744177663 CACHE 1;

CREATE TABLE IF NOT EXISTS {schema}.events (
    position bigint PRIMARY KEY,
    stream text COLLATE "C" NOT NULL,
    seq bigint NOT NULL,
    time bigint NOT NULL,  -- nanoseconds UTC
    type text COLLATE "C" NOT NULL,
    version bigint NOT NULL,
    digest bytea NOT NULL,
    UNIQUE (stream, seq)
);
CREATE INDEX IF NOT EXISTS events_by_type ON {schema}.events (type, position);
{payloads}
CREATE OR REPLACE FUNCTION {schema}.refuse_change() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RAISE EXCEPTION 'The events of lllm are never changed or deleted.';
END $$;

CREATE OR REPLACE TRIGGER events_stay BEFORE UPDATE ON {schema}.events
    FOR EACH ROW EXECUTE FUNCTION {schema}.refuse_change();
CREATE OR REPLACE TRIGGER events_all_stay BEFORE TRUNCATE ON {schema}.events
    FOR EACH STATEMENT EXECUTE FUNCTION {schema}.refuse_change();
CREATE OR REPLACE TRIGGER payloads_stay BEFORE UPDATE ON {schema}.payloads
    FOR EACH ROW EXECUTE FUNCTION {schema}.refuse_change();
CREATE OR REPLACE TRIGGER payloads_all_stay BEFORE TRUNCATE ON {schema}.payloads
    FOR EACH STATEMENT EXECUTE FUNCTION {schema}.refuse_change();

-- Appends events, and gives back their positions. Events that are there already are not stored
-- twice. The number of the first event that conflicts with a stored one is the DETAIL of the error.
CREATE OR REPLACE FUNCTION {schema}.append(
    streams text[], seqs bigint[], times bigint[], types text[], versions bigint[],
    digests bytea[], datas bytea[]
) RETURNS bigint[]
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    many CONSTANT bigint := cardinality(streams);
    first bigint;
    added bigint;
    positions bigint[];
    conflicting bigint;
BEGIN
    IF many > {block} THEN
        RAISE EXCEPTION 'An append has at most {block} events.' USING ERRCODE = '54000';
    END IF;
    PERFORM pg_advisory_xact_lock_shared(
        '{literal}.blocks'::regclass::oid::bigint::bit(32)::integer,
        blocks.last_value::bit(32)::integer
    ) FROM {schema}.blocks;
    first := nextval('{literal}.blocks'::regclass) * {block};
    IF many = 1 THEN
        INSERT INTO {schema}.events VALUES (
            first, streams[1], seqs[1], times[1], types[1], versions[1], digests[1]
        ) ON CONFLICT DO NOTHING;
        IF FOUND THEN
            INSERT INTO {schema}.payloads VALUES (first, datas[1]);
            RETURN ARRAY[first];
        END IF;
    ELSE
        INSERT INTO {schema}.events
            SELECT first + given.number - 1, given.stream, given.seq, given.time, given.type,
                given.version, given.digest
            FROM unnest(streams, seqs, times, types, versions, digests) WITH ORDINALITY
                AS given (stream, seq, time, type, version, digest, number)
            ORDER BY given.number
            ON CONFLICT DO NOTHING;
        GET DIAGNOSTICS added = ROW_COUNT;
        IF added = many THEN
            INSERT INTO {schema}.payloads
                SELECT first + given.number - 1, given.data
                FROM unnest(datas) WITH ORDINALITY AS given (data, number);
            RETURN ARRAY(SELECT generate_series(first, first + many - 1));
        END IF;
        INSERT INTO {schema}.payloads
            SELECT first + given.number - 1, given.data
            FROM unnest(datas) WITH ORDINALITY AS given (data, number)
            JOIN {schema}.events AS stored ON stored.position = first + given.number - 1;
    END IF;
    -- The commit of an append that was stored before has to wait for the standbys, too.
    PERFORM pg_logical_emit_message(true, 'lllm', '');
    SELECT array_agg(stored.position ORDER BY given.number),
           min(given.number) FILTER (WHERE stored.digest IS DISTINCT FROM given.digest)
        INTO positions, conflicting
        FROM unnest(streams, seqs, digests) WITH ORDINALITY
            AS given (stream, seq, digest, number)
        LEFT JOIN {schema}.events AS stored
            ON stored.stream = given.stream COLLATE "C" AND stored.seq = given.seq;
    IF conflicting IS NOT NULL THEN
        RAISE EXCEPTION 'Another event stands at the place of event %.', conflicting
            USING ERRCODE = '{conflict}', DETAIL = conflicting;
    END IF;
    RETURN positions;
END $$;

-- The highest position up to which no event can appear any more. It is in PL/pgSQL, because a
-- function in SQL would be planned anew in each statement, which takes longer than to run it.
CREATE OR REPLACE FUNCTION {schema}.head() RETURNS bigint
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    -- As one expression: its snapshot of the events is older than its look at the locks.
    RETURN (WITH held AS MATERIALIZED (
        SELECT objid::bigint AS low FROM pg_locks
        WHERE locktype = 'advisory' AND objsubid = 2
            AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
            AND classid = '{literal}.blocks'::regclass::oid
    ), blocks AS MATERIALIZED (
        SELECT CASE WHEN (SELECT count(*) FROM held) = 0 THEN 0 ELSE last_value END AS last
        FROM {schema}.blocks
    ), bounds AS MATERIALIZED (
        -- A lock has the low 32 bits of a number that is near to the last one.
        SELECT min(last - ((last - low + 2147483648) & 4294967295) + 2147483648) AS lowest
        FROM held, blocks
    )
    SELECT coalesce((
        SELECT max(position) FROM {schema}.events
        WHERE position < coalesce(
            (SELECT (lowest + 1) * {block} FROM bounds), 9223372036854775807
        )
    ), 0));
END $$;

-- The processes that write sessions. Each holds a shared advisory lock on its number, on a
-- connection of its own, and says now and then that it lives.
CREATE TABLE IF NOT EXISTS {schema}.writers (
    number integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    owner text COLLATE "C" NOT NULL UNIQUE,
    seen timestamptz NOT NULL
);

-- When the server, or a standby that was promoted, was first asked for writers.
CREATE TABLE IF NOT EXISTS {schema}.timelines (
    timeline text PRIMARY KEY,
    since timestamptz NOT NULL
);

CREATE OR REPLACE FUNCTION {schema}.writer_lives(name text, connected boolean) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    found integer;
BEGIN
    INSERT INTO {schema}.writers AS known (owner, seen) VALUES (name, clock_timestamp())
        ON CONFLICT (owner) DO UPDATE SET seen = clock_timestamp()
        RETURNING known.number INTO found;
    IF connected THEN
        PERFORM pg_advisory_lock_shared(
            '{literal}.writers'::regclass::oid::bigint::bit(32)::integer, found
        );
    END IF;
END $$;

CREATE OR REPLACE FUNCTION {schema}.writer_leaves(name text) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    DELETE FROM {schema}.writers WHERE owner = name
$$;

-- Who is known, and who is dead: whose lock is free, and of whom nothing was heard for a time, of
-- which the server was up, and the same server.
CREATE OR REPLACE FUNCTION {schema}.known_writers(silence interval)
RETURNS TABLE (known text, dead boolean)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    now CONSTANT timestamptz := clock_timestamp();
    current CONSTANT text := left(pg_walfile_name(pg_current_wal_lsn()), 8);
    up timestamptz;
BEGIN
    SELECT since INTO up FROM {schema}.timelines WHERE timeline = current;
    IF NOT FOUND THEN
        INSERT INTO {schema}.timelines VALUES (current, now) ON CONFLICT DO NOTHING;
        up := now;
    END IF;
    RETURN QUERY
        SELECT owner, now - greatest(seen, up, pg_postmaster_start_time()) > silence
            AND NOT EXISTS (
                SELECT FROM pg_locks
                WHERE locktype = 'advisory' AND objsubid = 2 AND objid = number::oid
                    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
                    AND classid = '{literal}.writers'::regclass::oid
            )
        FROM {schema}.writers;
END $$;

REVOKE ALL ON FUNCTION
    {schema}.append(text[], bigint[], bigint[], text[], bigint[], bytea[], bytea[]) FROM PUBLIC;

INSERT INTO {schema}.format SELECT {format} WHERE NOT EXISTS (SELECT FROM {schema}.format);
UPDATE {schema}.format SET version = {format} WHERE version < {format};
"""


def identifier(name: str) -> str:
    """Quote a name, so that SQL takes it for a name whatever it contains.

    Args:
        name: The name of a schema, table or channel.

    Returns:
        The name in double quotes.
    """
    doubled = name.replace('"', '""')
    return f'"{doubled}"'


def ddl(schema: str, partition_by: str | None = None) -> str:
    """Make the SQL statements that create the schema, tables and functions of a log.

    They change nothing that exists already, except that functions are replaced by this version's.

    Args:
        schema: The name of the schema.
        partition_by: "month" to partition the payloads by month; None for one table.

    Returns:
        The statements.
    """
    made = table_statements(schema, partition_by)
    return f"CREATE SCHEMA IF NOT EXISTS {identifier(schema)};\n{made}"


def table_statements(schema: str, partition_by: str | None = None) -> str:
    """Make the SQL statements of `ddl` for a schema that exists.

    Args:
        schema: The name of the schema.
        partition_by: As for `ddl`.

    Returns:
        The statements.
    """
    quoted = identifier(schema)
    payloads = PARTITIONED if partition_by == "month" else WHOLE
    return (_DDL.replace("{payloads}", payloads) + ERASURE + ARCHIVE + PARTITIONS).format(
        schema=quoted, literal=quoted.replace("'", "''"), block=BLOCK, format=FORMAT,
        conflict=CONFLICT, archive_format=ARCHIVE_FORMAT,
    )  # fmt: skip


def grants(schema: str) -> str:
    """Make the SQL statements that allow roles to write, or to write and read a log.

    Args:
        schema: The name of the schema.

    Returns:
        The statements, for the roles `writer`, `reader` and `eraser`.
    """
    quoted = identifier(schema)
    return f"""\
For a role that may only write:
GRANT USAGE ON SCHEMA {quoted} TO writer;
GRANT EXECUTE ON FUNCTION {quoted}.append TO writer;
For a role that may only read; one that does both gets both:
GRANT USAGE ON SCHEMA {quoted} TO reader;
GRANT SELECT ON {quoted}.events, {quoted}.payloads, {quoted}.kept_payloads TO reader;
For a role that may erase and archive sessions, besides both; `lllm vacuum` needs the owner:
GRANT EXECUTE ON FUNCTION {quoted}.erase, {quoted}.remove_events TO eraser;
"""
