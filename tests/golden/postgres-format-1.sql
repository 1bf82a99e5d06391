CREATE SCHEMA IF NOT EXISTS "an_earlier_log";

CREATE TABLE IF NOT EXISTS "an_earlier_log".format (version integer NOT NULL);
GRANT SELECT ON "an_earlier_log".format TO PUBLIC;

CREATE SEQUENCE IF NOT EXISTS "an_earlier_log".blocks AS bigint MAXVALUE 70368744177663 CACHE 1;

CREATE TABLE IF NOT EXISTS "an_earlier_log".events (
    position bigint PRIMARY KEY,
    stream text COLLATE "C" NOT NULL,
    seq bigint NOT NULL,
    time bigint NOT NULL,  -- nanoseconds UTC
    type text COLLATE "C" NOT NULL,
    version bigint NOT NULL,
    digest bytea NOT NULL,
    UNIQUE (stream, seq)
);
CREATE INDEX IF NOT EXISTS events_by_type ON "an_earlier_log".events (type, position);

CREATE TABLE IF NOT EXISTS "an_earlier_log".payloads (
    position bigint PRIMARY KEY,
    data bytea NOT NULL  -- JSON, in the bytes in which it was written
);

CREATE OR REPLACE FUNCTION "an_earlier_log".refuse_change() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RAISE EXCEPTION 'The events of lllm are never changed or deleted.';
END $$;

CREATE OR REPLACE TRIGGER events_stay BEFORE UPDATE OR DELETE ON "an_earlier_log".events
    FOR EACH ROW EXECUTE FUNCTION "an_earlier_log".refuse_change();
CREATE OR REPLACE TRIGGER events_all_stay BEFORE TRUNCATE ON "an_earlier_log".events
    FOR EACH STATEMENT EXECUTE FUNCTION "an_earlier_log".refuse_change();
CREATE OR REPLACE TRIGGER payloads_stay BEFORE UPDATE OR DELETE ON "an_earlier_log".payloads
    FOR EACH ROW EXECUTE FUNCTION "an_earlier_log".refuse_change();
CREATE OR REPLACE TRIGGER payloads_all_stay BEFORE TRUNCATE ON "an_earlier_log".payloads
    FOR EACH STATEMENT EXECUTE FUNCTION "an_earlier_log".refuse_change();

-- Appends events, and gives back their positions. Events that are there already are not stored
-- twice. The number of the first event that conflicts with a stored one is the DETAIL of the error.
CREATE OR REPLACE FUNCTION "an_earlier_log".append(
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
    IF many > 65536 THEN
        RAISE EXCEPTION 'An append has at most 65536 events.' USING ERRCODE = '54000';
    END IF;
    PERFORM pg_advisory_xact_lock_shared(
        '"an_earlier_log".blocks'::regclass::oid::bigint::bit(32)::integer,
        blocks.last_value::bit(32)::integer
    ) FROM "an_earlier_log".blocks;
    first := nextval('"an_earlier_log".blocks'::regclass) * 65536;
    IF many = 1 THEN
        INSERT INTO "an_earlier_log".events VALUES (
            first, streams[1], seqs[1], times[1], types[1], versions[1], digests[1]
        ) ON CONFLICT DO NOTHING;
        IF FOUND THEN
            INSERT INTO "an_earlier_log".payloads VALUES (first, datas[1]);
            RETURN ARRAY[first];
        END IF;
    ELSE
        INSERT INTO "an_earlier_log".events
            SELECT first + given.number - 1, given.stream, given.seq, given.time, given.type,
                given.version, given.digest
            FROM unnest(streams, seqs, times, types, versions, digests) WITH ORDINALITY
                AS given (stream, seq, time, type, version, digest, number)
            ORDER BY given.number
            ON CONFLICT DO NOTHING;
        GET DIAGNOSTICS added = ROW_COUNT;
        IF added = many THEN
            INSERT INTO "an_earlier_log".payloads
                SELECT first + given.number - 1, given.data
                FROM unnest(datas) WITH ORDINALITY AS given (data, number);
            RETURN ARRAY(SELECT generate_series(first, first + many - 1));
        END IF;
        INSERT INTO "an_earlier_log".payloads
            SELECT first + given.number - 1, given.data
            FROM unnest(datas) WITH ORDINALITY AS given (data, number)
            JOIN "an_earlier_log".events AS stored ON stored.position = first + given.number - 1;
    END IF;
    -- The commit of an append that was stored before has to wait for the standbys, too.
    PERFORM pg_logical_emit_message(true, 'lllm', '');
    SELECT array_agg(stored.position ORDER BY given.number),
           min(given.number) FILTER (WHERE stored.digest IS DISTINCT FROM given.digest)
        INTO positions, conflicting
        FROM unnest(streams, seqs, digests) WITH ORDINALITY
            AS given (stream, seq, digest, number)
        LEFT JOIN "an_earlier_log".events AS stored
            ON stored.stream = given.stream COLLATE "C" AND stored.seq = given.seq;
    IF conflicting IS NOT NULL THEN
        RAISE EXCEPTION 'Another event stands at the place of event %.', conflicting
            USING ERRCODE = 'LL001', DETAIL = conflicting;
    END IF;
    RETURN positions;
END $$;

-- The highest position up to which no event can appear any more.
CREATE OR REPLACE FUNCTION "an_earlier_log".head() RETURNS bigint
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    -- As one statement: its snapshot of the events is older than its look at the locks.
    WITH held AS MATERIALIZED (
        SELECT objid::bigint AS low FROM pg_locks
        WHERE locktype = 'advisory' AND objsubid = 2
            AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
            AND classid = '"an_earlier_log".blocks'::regclass::oid
    ), blocks AS MATERIALIZED (
        SELECT CASE WHEN (SELECT count(*) FROM held) = 0 THEN 0 ELSE last_value END AS last
        FROM "an_earlier_log".blocks
    ), bounds AS MATERIALIZED (
        -- A lock has the low 32 bits of a number that is near to the last one.
        SELECT min(last - ((last - low + 2147483648) & 4294967295) + 2147483648) AS lowest
        FROM held, blocks
    )
    SELECT coalesce((
        SELECT max(position) FROM "an_earlier_log".events
        WHERE position < coalesce(
            (SELECT (lowest + 1) * 65536 FROM bounds), 9223372036854775807
        )
    ), 0)
$$;

-- The processes that write sessions. Each holds a shared advisory lock on its number, on a
-- connection of its own, and says now and then that it lives.
CREATE TABLE IF NOT EXISTS "an_earlier_log".writers (
    number integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    owner text COLLATE "C" NOT NULL UNIQUE,
    seen timestamptz NOT NULL
);

-- When the server, or a standby that was promoted, was first asked for writers.
CREATE TABLE IF NOT EXISTS "an_earlier_log".timelines (
    timeline text PRIMARY KEY,
    since timestamptz NOT NULL
);

CREATE OR REPLACE FUNCTION "an_earlier_log".writer_lives(name text, connected boolean) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    found integer;
BEGIN
    INSERT INTO "an_earlier_log".writers AS known (owner, seen) VALUES (name, clock_timestamp())
        ON CONFLICT (owner) DO UPDATE SET seen = clock_timestamp()
        RETURNING known.number INTO found;
    IF connected THEN
        PERFORM pg_advisory_lock_shared(
            '"an_earlier_log".writers'::regclass::oid::bigint::bit(32)::integer, found
        );
    END IF;
END $$;

CREATE OR REPLACE FUNCTION "an_earlier_log".writer_leaves(name text) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    DELETE FROM "an_earlier_log".writers WHERE owner = name
$$;

-- Who is known, and who is dead: whose lock is free, and of whom nothing was heard for a time, of
-- which the server was up, and the same server.
CREATE OR REPLACE FUNCTION "an_earlier_log".known_writers(silence interval)
RETURNS TABLE (known text, dead boolean)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    now CONSTANT timestamptz := clock_timestamp();
    current CONSTANT text := left(pg_walfile_name(pg_current_wal_lsn()), 8);
    up timestamptz;
BEGIN
    SELECT since INTO up FROM "an_earlier_log".timelines WHERE timeline = current;
    IF NOT FOUND THEN
        INSERT INTO "an_earlier_log".timelines VALUES (current, now) ON CONFLICT DO NOTHING;
        up := now;
    END IF;
    RETURN QUERY
        SELECT owner, now - greatest(seen, up, pg_postmaster_start_time()) > silence
            AND NOT EXISTS (
                SELECT FROM pg_locks
                WHERE locktype = 'advisory' AND objsubid = 2 AND objid = number::oid
                    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
                    AND classid = '"an_earlier_log".writers'::regclass::oid
            )
        FROM "an_earlier_log".writers;
END $$;

REVOKE ALL ON FUNCTION
    "an_earlier_log".append(text[], bigint[], bigint[], text[], bigint[], bytea[], bytea[]) FROM PUBLIC;

INSERT INTO "an_earlier_log".format SELECT 1 WHERE NOT EXISTS (SELECT FROM "an_earlier_log".format);
