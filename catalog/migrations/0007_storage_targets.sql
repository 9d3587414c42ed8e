-- Several storage targets. Until now there was one, 'default', whose place each server is told by --storage-url.
--
-- Older servers go on committing to datasets whose files are in 'default', which is the only target they know; the
-- trigger below refuses what they would put elsewhere.
-- commits from 0005

ALTER TABLE storage_targets
    ADD COLUMN url           text,                                  -- null for 'default' alone: each server's own
    ADD COLUMN options       jsonb NOT NULL DEFAULT '{}',           -- of the driver, texts by name; never a secret
    -- How far the catalog had come when a server that reaches this target wrote to it last, and what it had then: as in
    -- catalog_identity, which has those of 'default'. Each target counts for itself, because not every server reaches
    -- every target: one counter for all would go on without the target that knows better.
    ADD COLUMN horizon       bigint NOT NULL DEFAULT 0,
    ADD COLUMN horizon_state text NOT NULL DEFAULT '',
    ADD CONSTRAINT storage_targets_url CHECK ((name = 'default') = (url IS NULL)),
    ADD CONSTRAINT storage_targets_root UNIQUE (root_id);           -- two names for one place would be two owners

-- The files of a dataset are all in its target, which never changes. A server that knows no other than 'default' has put
-- them there, and is told that it is too old.
CREATE FUNCTION check_holder_storage() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM new_holders h JOIN datasets d USING (dataset_id) WHERE h.storage <> d.storage) THEN
        RAISE EXCEPTION 'a file of another storage target than its dataset' USING ERRCODE = 'TS002';
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER holders_storage AFTER INSERT ON holders
    REFERENCING NEW TABLE AS new_holders FOR EACH STATEMENT EXECUTE FUNCTION check_holder_storage();

-- sweep_intents for one target: a server sweeps those that it reaches, and of which it knows that this catalog is not
-- older than they are. See 0005.
CREATE FUNCTION sweep_intents(p_known_migration integer, p_lease interval, p_keep interval, p_storage text)
RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    v_swept integer;
BEGIN
    PERFORM check_server(p_known_migration);
    IF pg_postmaster_start_time() > clock_timestamp() - p_lease THEN
        RETURN 0;
    END IF;
    WITH orphans AS (
        DELETE FROM intents i USING server_leases l
        WHERE l.run_id = i.run_id AND i.storage = p_storage
          AND (l.expires_at < clock_timestamp() OR i.condemned_at < clock_timestamp() - p_lease)
        RETURNING i.holder_id, i.storage, i.path)
    INSERT INTO condemned_files (holder_id, storage, path, forget_after)
    SELECT holder_id, storage, path, clock_timestamp() + p_keep FROM orphans;
    GET DIAGNOSTICS v_swept = ROW_COUNT;

    DELETE FROM server_leases l
    WHERE l.expires_at < clock_timestamp() - p_keep
      AND NOT EXISTS (SELECT FROM intents i WHERE i.run_id = l.run_id);
    RETURN v_swept;
END
$$;

-- What older servers call: they know 'default' alone.
CREATE OR REPLACE FUNCTION sweep_intents(p_known_migration integer, p_lease interval, p_keep interval) RETURNS integer
LANGUAGE sql AS $$
    SELECT sweep_intents(p_known_migration, p_lease, p_keep, 'default')
$$;

-- raise_horizon for one target, by what was committed to the datasets in it; for 'default' by whatever was committed,
-- as in 0006. Raises TS002 when the catalog is newer than the server. Answers null for a target that there is not.
CREATE FUNCTION raise_horizon(p_known_migration integer, p_storage text) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
    v_target storage_targets%ROWTYPE;
    v_state  text;
BEGIN
    IF p_storage = 'default' THEN
        RETURN raise_horizon(p_known_migration);
    END IF;
    PERFORM check_server(p_known_migration);
    SELECT * INTO v_target FROM storage_targets WHERE name = p_storage FOR UPDATE;
    v_state := (SELECT format('%s %s %s', count(*), sum(h.dataset_id), sum(h.version))
                FROM dataset_heads h JOIN datasets d USING (dataset_id) WHERE d.storage = p_storage)
               || (SELECT format(' %s', count(*)) FROM appends a JOIN datasets d USING (dataset_id)
                   WHERE a.state = 'abandoned' AND d.storage = p_storage);
    IF v_state <> v_target.horizon_state THEN
        v_target.horizon := v_target.horizon + 1;
        UPDATE storage_targets SET horizon = v_target.horizon, horizon_state = v_state WHERE name = p_storage;
    END IF;
    RETURN v_target.horizon;
END
$$;
