-- What servers leave that die or give up: their intents are condemned, the bytes deleted, and a day later once more.

ALTER TABLE condemned_files
    -- When the bytes are deleted once more and the file is forgotten: an upload that hung can land after the first time.
    -- Null for files that were published; nobody writes those any more.
    ADD COLUMN forget_after timestamptz,
    ADD COLUMN deleted_at   timestamptz;                            -- since when the bytes were seen to be gone

-- Condemns the intents of servers whose leases are over, and those that a living server condemned a lease ago and could
-- not delete. In a transaction of its own, before any byte is deleted: a commit that comes later finds no intent and
-- aborts. Answers how many; 0 within a lease of a start of Postgres, when nobody could renew a lease.
CREATE FUNCTION sweep_intents(p_known_migration integer, p_lease interval, p_keep interval) RETURNS integer
LANGUAGE plpgsql AS $$
DECLARE
    v_swept integer;
BEGIN
    PERFORM check_server(p_known_migration);
    IF pg_postmaster_start_time() > clock_timestamp() - p_lease THEN
        RETURN 0;
    END IF;
    WITH orphans AS (
        DELETE FROM intents i USING server_leases l
        WHERE l.run_id = i.run_id
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
