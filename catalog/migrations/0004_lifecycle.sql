-- How things end: keys are abandoned, windows expire, datasets are dropped, history is cut off, bytes are deleted.
--
-- The way of all bytes that were committed once: a version removes their slices; the history floor rises over that
-- version; one ticket lifetime later `purge_history` deletes the slices and condemns files that have none left, in one
-- transaction; then the bytes are deleted; then the file is forgotten. Whoever dies on the way leaves a row that says how
-- far it got, and anybody may go on.

ALTER TABLE dataset_heads
    -- Set when history_floor was raised, until all that only older versions saw is purged; the floor rests meanwhile.
    ADD COLUMN floor_raised_at timestamptz,
    -- Older versions may have lost slices: not even a ticket that was given out before can be used for them.
    ADD COLUMN purged_below bigint NOT NULL DEFAULT 0;

-- Files of no version any more, whose bytes are still to be deleted.
CREATE TABLE condemned_files (
    holder_id    uuid PRIMARY KEY,
    storage      text NOT NULL,
    path         text NOT NULL,
    condemned_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- For what waits to be purged. Costs appends nothing.
CREATE INDEX slices_removed ON slices (dataset_id, removed_version) WHERE removed_version IS NOT NULL;

-- Locks the head of a live dataset and answers it. Raises TS002 when the catalog is newer than the server, TS004 when
-- there is no such dataset (any more).
CREATE FUNCTION lock_head(p_known_migration integer, p_incarnation uuid) RETURNS dataset_heads
LANGUAGE plpgsql AS $$
DECLARE
    v_head dataset_heads%ROWTYPE;
BEGIN
    PERFORM check_server(p_known_migration);
    SELECT h.* INTO v_head FROM dataset_heads h JOIN datasets d USING (dataset_id)
    WHERE d.incarnation = p_incarnation FOR UPDATE OF h;
    -- The lock may have been waited for: whether the dataset was dropped meanwhile, only a new statement sees.
    IF NOT EXISTS (SELECT FROM datasets WHERE dataset_id = v_head.dataset_id AND dropped_at IS NULL) THEN
        RAISE EXCEPTION 'there is no such dataset' USING ERRCODE = 'TS004';
    END IF;
    RETURN v_head;
END
$$;

-- Fences an idempotency key, so that no append with it can commit. Answers null, or the receipt of the append that did.
CREATE FUNCTION abandon_key(p_known_migration integer, p_incarnation uuid, p_idempotency_key text) RETURNS jsonb
LANGUAGE plpgsql AS $$
DECLARE
    v_head    dataset_heads%ROWTYPE := lock_head(p_known_migration, p_incarnation);
    v_receipt jsonb;
BEGIN
    SELECT receipt INTO v_receipt FROM appends
    WHERE dataset_id = v_head.dataset_id AND idempotency_key = p_idempotency_key;
    IF NOT FOUND THEN
        INSERT INTO appends (append_id, dataset_id, idempotency_key, state, committed_at)
        VALUES (gen_random_uuid(), v_head.dataset_id, p_idempotency_key, 'abandoned', clock_timestamp());
    END IF;
    RETURN v_receipt;
END
$$;

-- Removes the windows of a dataset that ended longer ago than its retention, as one version. Answers {version, before,
-- slices, rows, bytes}: what was removed; `before` is null for a dataset that keeps everything.
CREATE FUNCTION expire_windows(p_known_migration integer, p_incarnation uuid) RETURNS jsonb
LANGUAGE plpgsql AS $$
DECLARE
    v_head       dataset_heads%ROWTYPE := lock_head(p_known_migration, p_incarnation);
    v_now        timestamptz := greatest(clock_timestamp(), v_head.committed_at);
    v_before     timestamptz := clock_timestamp() - (
        SELECT retention::interval FROM datasets WHERE dataset_id = v_head.dataset_id);
    v_slices     bigint;
    v_rows       bigint;
    v_bytes      bigint;
    v_partitions bigint;
BEGIN
    WITH removed AS (
        UPDATE slices SET removed_version = v_head.version + 1
        WHERE dataset_id = v_head.dataset_id AND removed_version IS NULL
          AND window_start < v_before AND window_end <= v_before  -- the first only for the index
        RETURNING key, window_start, rows, bytes)
    SELECT count(*), coalesce(sum(rows), 0), coalesce(sum(bytes), 0), count(DISTINCT (window_start, key))
    INTO v_slices, v_rows, v_bytes, v_partitions FROM removed;

    IF v_slices > 0 THEN
        v_head.version := v_head.version + 1;
        INSERT INTO versions (dataset_id, version, kind, committed_at, appends, rows)
        VALUES (v_head.dataset_id, v_head.version, 'expire', v_now, 0, v_rows);
        UPDATE dataset_heads
        SET version = v_head.version, committed_at = v_now, slices = slices - v_slices, rows = rows - v_rows,
            bytes = bytes - v_bytes, partitions = partitions - v_partitions
        WHERE dataset_id = v_head.dataset_id;
    END IF;
    RETURN jsonb_build_object('version', v_head.version, 'before', v_before, 'slices', v_slices, 'rows', v_rows,
                              'bytes', v_bytes);
END
$$;

-- Drops a dataset, as its last version: it has no name any more, and no version of it can be read. Answers {version,
-- dropped_at}.
CREATE FUNCTION drop_dataset(p_known_migration integer, p_incarnation uuid) RETURNS jsonb
LANGUAGE plpgsql AS $$
DECLARE
    v_head    dataset_heads%ROWTYPE := lock_head(p_known_migration, p_incarnation);
    v_now     timestamptz := greatest(clock_timestamp(), v_head.committed_at);
    v_version bigint := v_head.version + 1;
BEGIN
    UPDATE slices SET removed_version = v_version WHERE dataset_id = v_head.dataset_id AND removed_version IS NULL;
    INSERT INTO versions (dataset_id, version, kind, committed_at, appends, rows)
    VALUES (v_head.dataset_id, v_version, 'drop', v_now, 0, v_head.rows);
    UPDATE datasets SET dropped_at = v_now WHERE dataset_id = v_head.dataset_id;
    UPDATE dataset_heads
    SET version = v_version, committed_at = v_now, history_floor = v_version, floor_raised_at = v_now,
        slices = 0, rows = 0, bytes = 0, partitions = 0
    WHERE dataset_id = v_head.dataset_id;
    RETURN jsonb_build_object('version', v_version, 'dropped_at', v_now);
END
$$;

-- Deletes what only versions below the history floor saw, at most p_limit slices or appends, and condemns files that have
-- no slice left. Nothing is due before the floor has rested for a ticket lifetime, nor, of a dropped dataset, before
-- p_retention has passed. Of a dropped dataset, all but its row in `datasets` goes: that row tells whoever holds an old
-- ticket what became of it. Answers how many rows it deleted; 0 when nothing is left, or somebody else is at it.
CREATE FUNCTION purge_history(
    p_known_migration integer, p_dataset_id bigint, p_ticket_lifetime interval, p_retention interval, p_limit integer)
RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    v_dataset datasets%ROWTYPE;
    v_head    dataset_heads%ROWTYPE;
    v_slices  bigint[];
    v_holders uuid[];
    v_appends integer;
BEGIN
    PERFORM check_server(p_known_migration);
    -- One at a time for each dataset: two that delete the last two slices of a file would both leave it to the other.
    -- Commits are not held up by this lock.
    SELECT * INTO v_dataset FROM datasets WHERE dataset_id = p_dataset_id FOR NO KEY UPDATE SKIP LOCKED;
    SELECT * INTO v_head FROM dataset_heads WHERE dataset_id = v_dataset.dataset_id;
    IF v_head.floor_raised_at IS NULL OR v_head.floor_raised_at > clock_timestamp() - p_ticket_lifetime
       OR v_dataset.dropped_at > clock_timestamp() - p_retention THEN
        RETURN 0;
    END IF;

    IF v_head.purged_below < v_head.history_floor THEN
        UPDATE dataset_heads SET purged_below = v_head.history_floor WHERE dataset_id = p_dataset_id;
    END IF;
    v_slices := ARRAY(SELECT slice_id FROM slices
                      WHERE dataset_id = p_dataset_id AND removed_version <= v_head.history_floor LIMIT p_limit);
    IF cardinality(v_slices) > 0 THEN
        v_holders := ARRAY(SELECT DISTINCT holder_id FROM slices WHERE slice_id = ANY (v_slices));
        DELETE FROM slice_appends WHERE slice_id = ANY (v_slices);
        DELETE FROM slices WHERE slice_id = ANY (v_slices);
        WITH gone AS (
            DELETE FROM holders h
            WHERE h.holder_id = ANY (v_holders)
              AND NOT EXISTS (SELECT FROM slices s WHERE s.holder_id = h.holder_id)
            RETURNING h.holder_id, h.storage, h.path)
        INSERT INTO condemned_files (holder_id, storage, path)
        SELECT holder_id, storage, path FROM gone WHERE path IS NOT NULL;
        RETURN cardinality(v_slices);
    END IF;

    IF v_dataset.dropped_at IS NULL THEN
        UPDATE dataset_heads SET floor_raised_at = NULL WHERE dataset_id = p_dataset_id;
        RETURN 0;
    END IF;
    DELETE FROM appends WHERE append_id IN (
        SELECT append_id FROM appends WHERE dataset_id = p_dataset_id LIMIT p_limit);
    GET DIAGNOSTICS v_appends = ROW_COUNT;
    IF v_appends = 0 THEN
        DELETE FROM dataset_keys WHERE dataset_id = p_dataset_id;
        DELETE FROM schema_versions WHERE dataset_id = p_dataset_id;
        DELETE FROM versions WHERE dataset_id = p_dataset_id;
        DELETE FROM dataset_heads WHERE dataset_id = p_dataset_id;
    END IF;
    RETURN v_appends;
END
$$;
