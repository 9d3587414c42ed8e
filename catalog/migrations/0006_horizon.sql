-- How far a catalog has come, so that one that is older than the storage it finds is noticed. Servers raise the horizon,
-- and then write its number to storage: the catalog is never behind, unless it was restored from a backup.
-- Servers that do not know it go on committing; the next one that does sees what they did.
-- commits from 0005

ALTER TABLE catalog_identity
    ADD COLUMN horizon       bigint NOT NULL DEFAULT 0,
    ADD COLUMN horizon_state text NOT NULL DEFAULT '';              -- what the catalog had then, see raise_horizon

-- To count them. Costs appends that commit nothing.
CREATE INDEX appends_abandoned ON appends (dataset_id) WHERE state = 'abandoned';

-- Raises the horizon if anything was committed since it was raised, whoever did it; answers it. What was committed is seen
-- by counts, not by times: clocks step, and a commit ends later than its time.
-- Raises TS002 when the catalog is newer than the server.
CREATE FUNCTION raise_horizon(p_known_migration integer) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
    v_identity catalog_identity%ROWTYPE;
    v_state    text;
BEGIN
    PERFORM check_server(p_known_migration);
    SELECT * INTO v_identity FROM catalog_identity FOR UPDATE;
    v_state := (SELECT format('%s %s %s', count(*), sum(dataset_id), sum(version)) FROM dataset_heads)
               || (SELECT format(' %s', count(*)) FROM appends WHERE state = 'abandoned');
    IF v_state <> v_identity.horizon_state THEN
        v_identity.horizon := v_identity.horizon + 1;
        UPDATE catalog_identity SET horizon = v_identity.horizon, horizon_state = v_state;
    END IF;
    RETURN v_identity.horizon;
END
$$;
