-- Every statement the catalog sends, by name. `%(name)s` are parameters.

-- name: read_identity
-- Who this catalog is, and which root has its files.
SELECT i.catalog_id, i.incarnation, t.root_id
FROM catalog_identity i LEFT JOIN storage_targets t ON t.name = %(storage)s;

-- name: settle_storage_root
-- Remember which root has the files, unless that is settled; answer the one that is.
INSERT INTO storage_targets (name, root_id) VALUES (%(name)s, %(root_id)s)
ON CONFLICT (name) DO UPDATE SET name = excluded.name
RETURNING root_id;

-- name: list_storage_targets
-- The storage targets beside 'default', by name.
SELECT name, url, options FROM storage_targets WHERE name <> 'default' ORDER BY name;

-- name: count_storage_targets
-- How much is visible in each storage target that has a dataset.
SELECT d.storage, count(*), sum(h.slices)::bigint, sum(h.bytes)::bigint
FROM datasets d JOIN dataset_heads h USING (dataset_id)
WHERE d.dropped_at IS NULL
GROUP BY d.storage;

-- name: add_storage_target
-- Remember a storage target, unless its name or its root is taken; its horizon is that of an earlier attempt.
INSERT INTO storage_targets (name, url, options, root_id, horizon)
VALUES (%(name)s, %(url)s, %(options)s, %(root_id)s, %(horizon)s)
ON CONFLICT DO NOTHING
RETURNING name;

-- name: change_storage_target
-- Say where a storage target is now, and with which options.
UPDATE storage_targets SET url = %(url)s, options = %(options)s WHERE name = %(name)s AND name <> 'default'
RETURNING name;

-- name: read_safety
-- The settings without which a commit could be lost.
SELECT name, setting FROM pg_settings WHERE name IN ('fsync', 'full_page_writes', 'synchronous_commit');

-- name: start_lease
-- Register one run of a server.
INSERT INTO server_leases (run_id, address, software_version, expires_at)
VALUES (%(run_id)s, %(address)s, %(software_version)s, clock_timestamp() + make_interval(secs => %(lease_s)s));

-- name: renew_lease
-- Prolong the lease of a run, by this database's clock.
UPDATE server_leases SET expires_at = clock_timestamp() + make_interval(secs => %(lease_s)s) WHERE run_id = %(run_id)s;

-- name: end_lease
-- Let go of the lease of a run that ends in good order.
UPDATE server_leases SET expires_at = clock_timestamp() WHERE run_id = %(run_id)s;

-- name: record_intents
-- Record files before their first byte is written.
INSERT INTO intents (holder_id, run_id, storage, path)
SELECT holder_id, %(run_id)s, storage, path
FROM unnest(%(holder_ids)s::uuid[], %(storages)s::text[], %(paths)s::text[]) AS i (holder_id, storage, path);

-- name: condemn_intents
-- Give files up, before their bytes are deleted: a commit that comes later aborts. Those already committed are not here.
UPDATE intents SET condemned_at = clock_timestamp()
WHERE holder_id = ANY (%(holder_ids)s) AND run_id = %(run_id)s AND condemned_at IS NULL
RETURNING holder_id;

-- name: forget_intents
-- Forget condemned files whose bytes are deleted.
DELETE FROM intents
WHERE holder_id = ANY (%(holder_ids)s) AND run_id = %(run_id)s AND condemned_at IS NOT NULL;

-- name: commit_appends
-- Publish: see the function.
SELECT commit_appends(%(known_migration)s, %(dataset)s, %(appends)s);

-- name: find_append
-- What an idempotency key stands for.
SELECT state, fingerprint, receipt FROM appends
WHERE dataset_id = %(dataset_id)s AND idempotency_key = %(idempotency_key)s;

-- name: find_dataset
-- A live dataset by name, ignoring case, as it is now.
SELECT d.dataset_id, d.name, d.incarnation, d.timestamp_column, d.window_length, d.row_order, d.evolution, d.bounds,
       d.key_names, d.created_at, d.storage, d.max_rows_per_put, d.max_bytes, d.retention, h.version, h.schema_version,
       h.history_floor, h.slices, h.rows, h.bytes, h.partitions, s.arrow_schema
FROM datasets d
JOIN dataset_heads h USING (dataset_id)
JOIN schema_versions s USING (dataset_id, schema_version)
WHERE lower(d.name) = lower(%(name)s) AND d.dropped_at IS NULL;

-- name: find_incarnation
-- A dataset as in find_dataset, by its incarnation; before that whether it is live still, and below which version what
-- only older ones saw is deleted. Of one that was dropped long ago, nothing else is left.
SELECT d.dropped_at IS NULL, h.purged_below,
       d.dataset_id, d.name, d.incarnation, d.timestamp_column, d.window_length, d.row_order, d.evolution, d.bounds,
       d.key_names, d.created_at, d.storage, d.max_rows_per_put, d.max_bytes, d.retention, h.version, h.schema_version,
       h.history_floor, h.slices, h.rows, h.bytes, h.partitions, s.arrow_schema
FROM datasets d
LEFT JOIN dataset_heads h USING (dataset_id)
LEFT JOIN schema_versions s USING (dataset_id, schema_version)
WHERE d.incarnation = %(incarnation)s;

-- name: read_purged_below
-- Below which version what only older ones saw is deleted.
SELECT purged_below FROM dataset_heads WHERE dataset_id = %(dataset_id)s;

-- name: find_for_put
-- A live dataset as in find_dataset, with what an idempotency key stands for in it: all that a put asks at first.
SELECT d.dataset_id, d.name, d.incarnation, d.timestamp_column, d.window_length, d.row_order, d.evolution, d.bounds,
       d.key_names, d.created_at, d.storage, d.max_rows_per_put, d.max_bytes, d.retention, h.version, h.schema_version,
       h.history_floor, h.slices, h.rows, h.bytes, h.partitions, s.arrow_schema,
       a.state, a.fingerprint, a.receipt
FROM datasets d
JOIN dataset_heads h USING (dataset_id)
JOIN schema_versions s USING (dataset_id, schema_version)
LEFT JOIN appends a ON a.dataset_id = d.dataset_id AND a.idempotency_key = %(idempotency_key)s
WHERE lower(d.name) = lower(%(name)s) AND d.dropped_at IS NULL;

-- name: list_datasets
-- A page of live datasets by name; patterns of LIKE, if there are any, say which the caller may know of.
SELECT d.dataset_id, d.name, d.incarnation, d.timestamp_column, d.window_length, d.row_order, d.evolution, d.bounds,
       d.key_names, d.created_at, d.storage, d.max_rows_per_put, d.max_bytes, d.retention, h.version, h.schema_version,
       h.history_floor, h.slices, h.rows, h.bytes, h.partitions, s.arrow_schema
FROM datasets d
JOIN dataset_heads h USING (dataset_id)
JOIN schema_versions s USING (dataset_id, schema_version)
WHERE d.dropped_at IS NULL AND d.name COLLATE "C" > %(after)s AND starts_with(d.name, %(prefix)s)
  AND (%(patterns)s::text[] IS NULL OR lower(d.name) LIKE ANY (%(patterns)s::text[]))
ORDER BY d.name COLLATE "C"
LIMIT %(limit)s;

-- name: find_keys
-- The keys of a dataset that have some parts, at most so many.
SELECT key FROM dataset_keys WHERE dataset_id = %(dataset_id)s AND parts @> %(parts)s::jsonb LIMIT %(limit)s;

-- name: schema_at
-- The schema that a version of a dataset has.
SELECT arrow_schema FROM schema_versions
WHERE dataset_id = %(dataset_id)s AND added_version <= %(version)s
ORDER BY schema_version DESC LIMIT 1;

-- name: version_at
-- The version that was current at an instant; none if the dataset had no commit yet.
SELECT max(version) FROM versions WHERE dataset_id = %(dataset_id)s AND committed_at <= %(moment)s;

-- name: list_history
-- A page of commits, newest first.
SELECT version, kind, committed_at, appends, rows FROM versions
WHERE dataset_id = %(dataset_id)s AND version < %(before)s
ORDER BY version DESC
LIMIT %(limit)s;

-- name: list_slices
-- A page of the slices visible at a version, by window, key, version. The cursor is in or after the first window wanted.
WITH page AS (
    SELECT * FROM slices s
    WHERE s.dataset_id = %(dataset_id)s
      AND s.added_version <= %(version)s AND (s.removed_version IS NULL OR s.removed_version > %(version)s)
      AND s.window_start < %(end)s
      AND (%(keys)s::text[] IS NULL OR s.key = ANY (%(keys)s::text[]))
      AND (%(keys)s::text[] IS NOT NULL OR %(parts)s = '{}' OR s.key::jsonb @> %(parts)s::jsonb)
      AND (%(start_ns)s::numeric IS NULL OR s.max_ts_ns >= %(start_ns)s)
      AND (%(end_ns)s::numeric IS NULL OR s.min_ts_ns < %(end_ns)s)
      AND (s.window_start, s.key, s.added_version, s.slice_id)
          > (%(after_window)s, %(after_key)s, %(after_version)s::bigint, %(after_slice)s::bigint)
      AND (%(last_window)s::timestamptz IS NULL OR (s.window_start, s.key) <= (%(last_window)s, %(last_key)s))
    ORDER BY s.window_start, s.key, s.added_version, s.slice_id
    LIMIT %(limit)s)
SELECT s.slice_id, s.holder_id, h.form, h.storage, h.path, h.checksum, s.key, s.window_start, s.window_end, s.rows, s.bytes,
       s.min_ts_ns, s.max_ts_ns, s.added_version
FROM page s JOIN holders h USING (holder_id)
ORDER BY s.window_start, s.key, s.added_version, s.slice_id;

-- name: group_partitions
-- The partitions visible at a version, cut into at most %(groups)s runs of neighbours.
WITH partitions AS (
    SELECT s.window_start, s.key, sum(s.rows) AS rows, sum(s.bytes) AS bytes
    FROM slices s
    WHERE s.dataset_id = %(dataset_id)s
      AND s.added_version <= %(version)s AND (s.removed_version IS NULL OR s.removed_version > %(version)s)
      AND s.window_start >= %(first_window)s AND s.window_start < %(end)s
      AND (%(keys)s::text[] IS NULL OR s.key = ANY (%(keys)s::text[]))
      AND (%(keys)s::text[] IS NOT NULL OR %(parts)s = '{}' OR s.key::jsonb @> %(parts)s::jsonb)
      AND (%(start_ns)s::numeric IS NULL OR s.max_ts_ns >= %(start_ns)s)
      AND (%(end_ns)s::numeric IS NULL OR s.min_ts_ns < %(end_ns)s)
    GROUP BY s.window_start, s.key),
numbered AS (
    SELECT *, ntile(%(groups)s) OVER (ORDER BY window_start, key) AS part FROM partitions),
edges AS (
    SELECT *, lag(part) OVER neighbours IS DISTINCT FROM part AS is_first,
           lead(part) OVER neighbours IS DISTINCT FROM part AS is_last
    FROM numbered WINDOW neighbours AS (ORDER BY window_start, key))
SELECT part, min(window_start), min(key) FILTER (WHERE is_first), max(window_start), max(key) FILTER (WHERE is_last),
       sum(rows)::bigint, sum(bytes)::bigint
FROM edges
GROUP BY part
ORDER BY part;

-- name: count_catalog
-- Totals over the whole catalog.
SELECT (SELECT count(*) FROM datasets WHERE dropped_at IS NULL),
       (SELECT count(*) FROM appends WHERE state = 'committed'),
       (SELECT count(*) FROM intents),
       (SELECT count(*) FROM condemned_files WHERE deleted_at IS NULL);

-- name: abandon_key
-- Fence an idempotency key: see the function.
SELECT abandon_key(%(known_migration)s, %(incarnation)s, %(idempotency_key)s);

-- name: expire_windows
-- Remove the windows past a dataset's retention: see the function.
SELECT expire_windows(%(known_migration)s, %(incarnation)s);

-- name: drop_dataset
-- Drop a dataset: see the function.
SELECT drop_dataset(%(known_migration)s, %(incarnation)s);

-- name: set_retention
-- Change how long a live dataset keeps windows.
UPDATE datasets SET retention = %(retention)s
WHERE incarnation = %(incarnation)s AND dropped_at IS NULL
RETURNING dataset_id;

-- name: list_expirable
-- Datasets of a storage target that have windows past their retention.
SELECT d.incarnation FROM datasets d
WHERE d.storage = %(storage)s AND d.dropped_at IS NULL AND d.retention IS NOT NULL AND EXISTS (
    SELECT FROM slices s
    WHERE s.dataset_id = d.dataset_id AND s.removed_version IS NULL
      AND s.window_start < clock_timestamp() - d.retention::interval
      AND s.window_end <= clock_timestamp() - d.retention::interval);

-- name: list_purgeable
-- Datasets of a storage target that have something that only old versions see, and dropped ones of which anything is left.
SELECT d.dataset_id FROM datasets d JOIN dataset_heads h USING (dataset_id)
WHERE d.storage = %(storage)s AND (
    d.dropped_at IS NOT NULL OR h.floor_raised_at IS NOT NULL
    OR EXISTS (SELECT FROM slices s WHERE s.dataset_id = d.dataset_id AND s.removed_version IS NOT NULL));

-- name: raise_history_floor
-- Let go of versions that were current longer ago than the retention of history, as far as something only they see can be
-- deleted then: a dataset of which nothing was ever removed keeps its whole history.
UPDATE dataset_heads h SET history_floor = gone.version, floor_raised_at = clock_timestamp()
FROM (SELECT max(s.removed_version) AS version FROM slices s
      WHERE s.dataset_id = %(dataset_id)s AND s.removed_version <= (
          SELECT max(v.version) FROM versions v
          WHERE v.dataset_id = %(dataset_id)s AND v.committed_at <= clock_timestamp() - %(retention)s::interval)) gone
WHERE h.dataset_id = %(dataset_id)s AND h.floor_raised_at IS NULL AND gone.version > h.history_floor
RETURNING h.history_floor;

-- name: purge_history
-- Delete what only versions below the history floor saw: see the function.
SELECT purge_history(
    %(known_migration)s, %(dataset_id)s, %(ticket_lifetime)s::interval, %(retention)s::interval, %(limit)s);

-- name: sweep_intents
-- Condemn what dead servers left in a storage target: see the function.
SELECT sweep_intents(%(known_migration)s, %(lease)s::interval, %(keep)s::interval, %(storage)s);

-- name: list_condemned_files
-- A page of the files whose bytes are to be deleted, for the first time or once more.
SELECT holder_id, path FROM condemned_files
WHERE storage = %(storage)s AND holder_id > %(after)s AND (deleted_at IS NULL OR forget_after <= clock_timestamp())
ORDER BY holder_id
LIMIT %(limit)s;

-- name: settle_condemned_files
-- Note that bytes are gone: forget the files, but for those whose bytes may come back.
WITH forgotten AS (
    DELETE FROM condemned_files
    WHERE holder_id = ANY (%(holder_ids)s) AND coalesce(forget_after <= clock_timestamp(), true))
UPDATE condemned_files SET deleted_at = clock_timestamp()
WHERE holder_id = ANY (%(holder_ids)s) AND forget_after > clock_timestamp();

-- name: find_catalog
-- Whether a schema has a catalog.
SELECT 1 FROM pg_tables WHERE schemaname = %(schema)s AND tablename = 'schema_migrations';

-- name: read_archive_facts
-- What an archive says about its catalog.
SELECT (SELECT max(number) FROM schema_migrations), catalog_id FROM catalog_identity;

-- name: running_servers
-- The servers whose leases are not over, by this database's clock.
SELECT address FROM server_leases WHERE expires_at > clock_timestamp();

-- name: list_tables
-- The catalog's tables with their columns, the identity column, and the other tables that each refers to.
SELECT c.relname,
       array_agg(a.attname ORDER BY a.attnum) FILTER (WHERE a.attgenerated = ''),
       max(a.attname) FILTER (WHERE a.attidentity <> ''),
       ARRAY(SELECT f.relname FROM pg_constraint k JOIN pg_class f ON f.oid = k.confrelid
             WHERE k.conrelid = c.oid AND k.contype = 'f' AND k.confrelid <> c.oid)
FROM pg_class c
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind = 'r' AND c.relname <> 'schema_migrations'
GROUP BY c.oid, c.relname;

-- name: read_clock
-- The only clock that counts.
SELECT clock_timestamp();

-- name: find_owners
-- Why the catalog knows some paths: as a file of some version, as one being written, or as one to be deleted.
SELECT path, 'listed' FROM holders WHERE storage = %(storage)s AND path = ANY (%(paths)s)
UNION ALL
SELECT path, 'intent' FROM intents WHERE storage = %(storage)s AND path = ANY (%(paths)s)
UNION ALL
SELECT path, 'condemned' FROM condemned_files WHERE storage = %(storage)s AND path = ANY (%(paths)s);

-- name: count_files
-- How many files versions have.
SELECT count(*) FROM holders WHERE storage = %(storage)s;

-- name: list_files
-- A page of the files that versions have, by id, with what the catalog says is in them.
SELECT h.holder_id, s.slice_id, d.name, h.path, h.bytes, h.checksum, s.key, s.window_start, s.window_end, s.rows, s.digest,
       ARRAY(SELECT a.append_id FROM slice_appends a WHERE a.slice_id = s.slice_id ORDER BY a.position)
FROM holders h
JOIN slices s ON s.holder_id = h.holder_id
JOIN datasets d ON d.dataset_id = h.dataset_id
WHERE h.storage = %(storage)s AND h.form = 'duckdb' AND h.holder_id >= %(after_holder)s
  AND (h.holder_id, s.slice_id) > (%(after_holder)s, %(after_slice)s)
ORDER BY h.holder_id, s.slice_id
LIMIT %(limit)s;

-- name: newest_applied
-- The newest migration that a catalog has.
SELECT max(number) FROM schema_migrations;

-- name: read_horizon
-- How far this catalog has come, as a storage target counts it.
SELECT CASE WHEN %(storage)s = 'default' THEN (SELECT horizon FROM catalog_identity)
            ELSE coalesce((SELECT horizon FROM storage_targets WHERE name = %(storage)s), 0) END;

-- name: raise_horizon
-- Count what was committed: see the function.
SELECT raise_horizon(%(known_migration)s, %(storage)s);

-- name: overtake_horizon
-- Raise the horizon over one that was found in a storage target.
WITH of_default AS (
    UPDATE catalog_identity SET horizon = greatest(horizon, %(stored)s) + 1 WHERE %(storage)s = 'default'
    RETURNING horizon),
of_another AS (
    UPDATE storage_targets SET horizon = greatest(horizon, %(stored)s) + 1
    WHERE name = %(storage)s AND name <> 'default'
    RETURNING horizon)
SELECT horizon FROM of_default UNION ALL SELECT horizon FROM of_another;

-- name: drop_intents
-- Forget all files that are being written or were left, and delete none of them.
DELETE FROM intents;

-- name: renew_incarnations
-- Make the tickets void that were given out before: their versions may stand for other rows now.
UPDATE datasets SET incarnation = gen_random_uuid() WHERE dropped_at IS NULL;

-- name: create_token
-- Remember a new token: a hash of its secret, never the secret.
INSERT INTO access_tokens (token_id, principal, secret_hash, grants, max_running_puts, bytes_per_s, expires_at)
VALUES (%(token_id)s, %(principal)s, %(secret_hash)s, %(grants)s, %(max_running_puts)s, %(bytes_per_s)s,
        clock_timestamp() + %(lifetime)s::interval)
RETURNING token_id, principal, grants, max_running_puts, bytes_per_s, created_at, expires_at, revoked_at;

-- name: list_tokens
-- All tokens, oldest first.
SELECT token_id, principal, grants, max_running_puts, bytes_per_s, created_at, expires_at, revoked_at
FROM access_tokens ORDER BY created_at, token_id;

-- name: find_token
-- A token with all it takes to judge it, by the only clock that counts.
SELECT token_id, principal, grants, max_running_puts, bytes_per_s, created_at, expires_at, revoked_at,
       secret_hash, extract(epoch FROM expires_at - clock_timestamp())::double precision
FROM access_tokens WHERE token_id = %(token_id)s;

-- name: revoke_token
-- End a token for ever; the first time counts.
UPDATE access_tokens SET revoked_at = coalesce(revoked_at, clock_timestamp()) WHERE token_id = %(token_id)s
RETURNING token_id;

-- name: list_appends
-- A page of a dataset's appends with who made them, newest first.
SELECT version, append_id, committed_at, principal, idempotency_key, rows, bytes FROM appends
WHERE dataset_id = %(dataset_id)s AND state = 'committed'
  AND (version, append_id) < (%(before_version)s::bigint, %(before_append)s::uuid)
  AND (%(principal)s::text IS NULL OR principal = %(principal)s)
ORDER BY version DESC, append_id DESC
LIMIT %(limit)s;
