-- Limits and retention of datasets, running totals of what is visible, and the keys of a dataset as a table of their own.

-- From here to the end of this migration no commit is under way: each reads schema_migrations first, and holds that lock
-- until it ends. Without this, one that had begun with the function of before could end after the totals are summed.
LOCK TABLE schema_migrations IN ACCESS EXCLUSIVE MODE;

-- Which servers may go on committing once a migration is there: those that know migration `commits_from` or a later one.
-- By itself a migration suits only servers that know it; one that says otherwise lets servers be upgraded one by one.
ALTER TABLE schema_migrations ADD COLUMN IF NOT EXISTS commits_from integer;

-- Raises TS002 when the catalog is too new for a server that knows migrations up to p_known_migration.
CREATE FUNCTION check_server(p_known_migration integer) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    IF (SELECT max(coalesce(commits_from, number)) FROM schema_migrations) > p_known_migration THEN
        RAISE EXCEPTION 'the catalog is newer than this server' USING ERRCODE = 'TS002';
    END IF;
END
$$;

ALTER TABLE datasets
    ADD COLUMN max_rows_per_put bigint CHECK (max_rows_per_put > 0),
    ADD COLUMN max_bytes        bigint CHECK (max_bytes > 0),       -- of the visible data files together
    -- How long windows are kept after their end: <n>m, <n>h or <n>d, which Postgres reads as an interval. Null: for ever.
    ADD COLUMN retention        text CHECK (retention ~ '^[1-9][0-9]*[mhd]$');

-- What is visible at `version`, summed: kept by whoever makes a version, so that nobody has to count.
ALTER TABLE dataset_heads
    ADD COLUMN slices     bigint NOT NULL DEFAULT 0,
    ADD COLUMN rows       bigint NOT NULL DEFAULT 0,
    ADD COLUMN bytes      bigint NOT NULL DEFAULT 0,                -- of data files
    ADD COLUMN partitions bigint NOT NULL DEFAULT 0;

UPDATE dataset_heads h
SET slices = t.slices, rows = t.rows, bytes = t.bytes, partitions = t.partitions
FROM (SELECT dataset_id, count(*) AS slices, sum(rows) AS rows, sum(bytes) AS bytes,
             count(DISTINCT (window_start, key)) AS partitions
      FROM slices WHERE removed_version IS NULL GROUP BY dataset_id) t
WHERE h.dataset_id = t.dataset_id;

-- The semantic keys that a dataset has, or had. Reads of a subset of a key's parts find the whole keys here, and then
-- slices by `slices_by_key`. Nearly always an append's key is here already.
CREATE TABLE dataset_keys (
    dataset_id bigint NOT NULL REFERENCES datasets,
    key        text COLLATE "C" NOT NULL,                           -- canonical JSON, as in slices
    parts      jsonb NOT NULL,                                      -- the same, to search in
    PRIMARY KEY (dataset_id, key)
);
CREATE INDEX dataset_keys_by_parts ON dataset_keys USING gin (parts jsonb_path_ops);
INSERT INTO dataset_keys (dataset_id, key, parts)
SELECT DISTINCT dataset_id, key, key::jsonb FROM slices;

-- For reads of few keys, and to see whether a partition has something visible (removed_version is null).
CREATE INDEX slices_by_key ON slices (dataset_id, key, window_start, removed_version);

-- commit_appends, the only way to publish, as of 0002; in addition
--
-- p_dataset          has max_rows_per_put, max_bytes and retention, null without
-- outcomes           has `full` for an append that would take the dataset past max_bytes, with visible_bytes, what the
--                    dataset had; such an append leaves nothing behind, nor does a dataset that was to be created for it
CREATE OR REPLACE FUNCTION commit_appends(p_known_migration integer, p_dataset jsonb, p_appends jsonb) RETURNS jsonb
LANGUAGE plpgsql AS $$
DECLARE
    v_dataset   datasets%ROWTYPE;
    v_head      dataset_heads%ROWTYPE;
    v_key_names text[] := ARRAY(SELECT jsonb_array_elements_text(p_dataset -> 'key_names'));
    v_known     appends%ROWTYPE;
    v_append    jsonb;
    v_intents   integer;
    v_receipt   jsonb;
    v_outcome   text;
    v_outcomes  jsonb := '[]';
    v_version   bigint;
    v_schema_version integer;
    v_now       timestamptz;
    v_appends   integer := 0;
    v_rows      bigint := 0;
    v_created   boolean := false;
    v_bytes     bigint;
BEGIN
    PERFORM check_server(p_known_migration);

    IF (p_dataset ->> 'create')::boolean THEN
        INSERT INTO datasets (name, incarnation, timestamp_column, window_length, row_order, evolution, bounds, storage,
                              max_rows_per_put, max_bytes, retention)
        VALUES (p_dataset ->> 'name', (p_dataset ->> 'incarnation')::uuid, p_dataset ->> 'timestamp_column',
                p_dataset ->> 'window_length', p_dataset ->> 'row_order', p_dataset ->> 'evolution',
                p_dataset -> 'bounds', p_dataset ->> 'storage', (p_dataset ->> 'max_rows_per_put')::bigint,
                (p_dataset ->> 'max_bytes')::bigint, p_dataset ->> 'retention')
        ON CONFLICT DO NOTHING
        RETURNING * INTO v_dataset;
        v_created := FOUND;
        IF v_created THEN
            INSERT INTO dataset_heads (dataset_id, version, schema_version, committed_at)
            VALUES (v_dataset.dataset_id, 0, 0, v_dataset.created_at);
        END IF;
    END IF;

    SELECT d.* INTO v_dataset FROM datasets d
    WHERE lower(d.name) = lower(p_dataset ->> 'name') AND d.dropped_at IS NULL;
    IF NOT FOUND OR v_dataset.incarnation <> (p_dataset ->> 'incarnation')::uuid THEN
        RAISE EXCEPTION 'planned for another dataset' USING ERRCODE = 'TS003';
    END IF;

    SELECT * INTO v_head FROM dataset_heads WHERE dataset_id = v_dataset.dataset_id FOR UPDATE;
    -- The lock may have been waited for: read again what an earlier commit can have changed.
    SELECT * INTO v_dataset FROM datasets WHERE dataset_id = v_dataset.dataset_id;
    IF v_dataset.dropped_at IS NOT NULL THEN
        RAISE EXCEPTION 'the dataset was dropped' USING ERRCODE = 'TS003';
    END IF;

    v_version := v_head.version + 1;
    v_schema_version := v_head.schema_version + CASE WHEN p_dataset ->> 'new_schema' IS NULL THEN 0 ELSE 1 END;
    v_now := greatest(clock_timestamp(), v_head.committed_at);

    FOR v_append IN SELECT value FROM jsonb_array_elements(p_appends) LOOP
        SELECT * INTO v_known FROM appends
        WHERE dataset_id = v_dataset.dataset_id AND idempotency_key = v_append ->> 'idempotency_key';
        IF FOUND THEN
            v_outcome := CASE
                WHEN v_known.state = 'abandoned' THEN 'abandoned'
                WHEN v_known.append_id = (v_append ->> 'append_id')::uuid THEN 'committed'  -- our own, answered too late
                WHEN v_known.fingerprint = v_append ->> 'fingerprint' THEN 'replayed'
                ELSE 'conflict' END;
            v_outcomes := v_outcomes || jsonb_build_object(
                'append_id', v_append -> 'append_id', 'outcome', v_outcome,
                'fingerprint', v_known.fingerprint, 'receipt', v_known.receipt);
            CONTINUE;
        END IF;

        IF v_head.schema_version <> (p_dataset ->> 'schema_version')::integer
           OR v_dataset.key_names <> v_key_names THEN
            RAISE EXCEPTION 'planned with an older schema' USING ERRCODE = 'TS003';
        END IF;

        v_bytes := (SELECT coalesce(sum((value ->> 'bytes')::bigint), 0)
                    FROM jsonb_array_elements(v_append -> 'slices'));
        IF v_bytes > 0 AND v_head.bytes + v_bytes > v_dataset.max_bytes THEN
            v_outcomes := v_outcomes || jsonb_build_object(
                'append_id', v_append -> 'append_id', 'outcome', 'full', 'fingerprint', null, 'receipt', null,
                'visible_bytes', v_head.bytes);
            CONTINUE;
        END IF;

        DELETE FROM intents WHERE condemned_at IS NULL AND holder_id IN (
            SELECT (value ->> 'holder_id')::uuid FROM jsonb_array_elements(v_append -> 'slices')
            WHERE value ->> 'form' <> 'inline');
        GET DIAGNOSTICS v_intents = ROW_COUNT;
        IF v_intents <> (SELECT count(DISTINCT value ->> 'holder_id') FROM jsonb_array_elements(v_append -> 'slices')
                         WHERE value ->> 'form' <> 'inline') THEN
            RAISE EXCEPTION 'an intent of this append was condemned' USING ERRCODE = 'TS001';
        END IF;

        IF (v_append ->> 'rows')::bigint <> (SELECT coalesce(sum((value ->> 'rows')::bigint), 0)
                                             FROM jsonb_array_elements(v_append -> 'slices')) THEN
            RAISE EXCEPTION 'the slices of this append do not have all of its rows';
        END IF;

        v_receipt := v_append -> 'receipt' || jsonb_build_object(
            'version', v_version, 'incarnation', v_dataset.incarnation,
            'committed_at', to_char(v_now AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'));
        INSERT INTO appends (append_id, dataset_id, idempotency_key, state, version, fingerprint, rows, bytes, principal,
                             receipt, committed_at)
        VALUES ((v_append ->> 'append_id')::uuid, v_dataset.dataset_id, v_append ->> 'idempotency_key', 'committed',
                v_version, v_append ->> 'fingerprint', (v_append ->> 'rows')::bigint, (v_append ->> 'bytes')::bigint,
                v_append ->> 'principal', v_receipt, v_now);

        INSERT INTO holders (holder_id, dataset_id, form, storage, path, bytes, checksum, created_at)
        SELECT DISTINCT s.holder_id, v_dataset.dataset_id, s.form, s.storage, s.path, s.bytes, s.checksum, v_now
        FROM jsonb_to_recordset(v_append -> 'slices') AS s (
            holder_id uuid, form text, storage text, path text, bytes bigint, checksum text);

        INSERT INTO dataset_keys (dataset_id, key, parts)
        SELECT DISTINCT v_dataset.dataset_id, value ->> 'key', (value ->> 'key')::jsonb
        FROM jsonb_array_elements(v_append -> 'slices')
        ON CONFLICT DO NOTHING;

        v_head.slices := v_head.slices + jsonb_array_length(v_append -> 'slices');
        v_head.rows := v_head.rows + (v_append ->> 'rows')::bigint;
        v_head.bytes := v_head.bytes + v_bytes;
        v_head.partitions := v_head.partitions + (
            SELECT count(*)
            FROM (SELECT DISTINCT value ->> 'key' AS key, (value ->> 'window_start')::timestamptz AS window_start
                  FROM jsonb_array_elements(v_append -> 'slices')) AS p
            WHERE NOT EXISTS (
                SELECT FROM slices s
                WHERE s.dataset_id = v_dataset.dataset_id AND s.key = p.key AND s.window_start = p.window_start
                  AND s.removed_version IS NULL));

        WITH new_slices AS (
            INSERT INTO slices (dataset_id, holder_id, key, window_start, window_end, schema_version, rows, bytes,
                                min_ts_ns, max_ts_ns, digest, added_version)
            SELECT v_dataset.dataset_id, s.holder_id, s.key, s.window_start, s.window_end, v_schema_version, s.rows,
                   s.bytes, s.min_ts_ns, s.max_ts_ns, s.digest, v_version
            FROM jsonb_array_elements(v_append -> 'slices') WITH ORDINALITY AS e (value, position),
                 jsonb_to_record(e.value) AS s (
                     holder_id uuid, key text, window_start timestamptz, window_end timestamptz, rows bigint, bytes bigint,
                     min_ts_ns numeric, max_ts_ns numeric, digest text)
            ORDER BY e.position
            RETURNING slice_id, rows)
        INSERT INTO slice_appends (slice_id, position, append_id, rows)
        SELECT slice_id, 0, (v_append ->> 'append_id')::uuid, rows FROM new_slices;

        v_appends := v_appends + 1;
        v_rows := v_rows + (v_append ->> 'rows')::bigint;
        v_outcomes := v_outcomes || jsonb_build_object(
            'append_id', v_append -> 'append_id', 'outcome', 'committed',
            'fingerprint', v_append -> 'fingerprint', 'receipt', v_receipt);
    END LOOP;

    IF v_created AND v_appends = 0 AND jsonb_array_length(p_appends) > 0 THEN
        DELETE FROM dataset_heads WHERE dataset_id = v_dataset.dataset_id;
        DELETE FROM datasets WHERE dataset_id = v_dataset.dataset_id;
        RETURN jsonb_build_object('dataset_id', null, 'version', 0, 'outcomes', v_outcomes);
    END IF;

    IF v_appends > 0 THEN
        INSERT INTO versions (dataset_id, version, kind, committed_at, appends, rows)
        VALUES (v_dataset.dataset_id, v_version, 'append', v_now, v_appends, v_rows);
        IF v_dataset.key_names IS NULL THEN
            UPDATE datasets SET key_names = v_key_names WHERE dataset_id = v_dataset.dataset_id;
        END IF;
    ELSE
        v_version := v_head.version;
    END IF;
    IF v_schema_version > v_head.schema_version AND (v_appends > 0 OR v_head.schema_version = 0) THEN
        INSERT INTO schema_versions (dataset_id, schema_version, arrow_schema, added_version)
        VALUES (v_dataset.dataset_id, v_schema_version, decode(p_dataset ->> 'new_schema', 'base64'), v_version);
    ELSE
        v_schema_version := v_head.schema_version;
    END IF;
    IF v_version > v_head.version OR v_schema_version > v_head.schema_version THEN
        UPDATE dataset_heads
        SET version = v_version, schema_version = v_schema_version, committed_at = v_now,
            slices = v_head.slices, rows = v_head.rows, bytes = v_head.bytes, partitions = v_head.partitions
        WHERE dataset_id = v_dataset.dataset_id;
    END IF;
    RETURN jsonb_build_object('dataset_id', v_dataset.dataset_id, 'version', v_version, 'outcomes', v_outcomes);
END
$$;
