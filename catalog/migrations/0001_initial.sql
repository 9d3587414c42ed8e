-- The catalog's tables and its one commit function, shaped for every landing, for sealing, dropping and sweeping.
-- Needs no extension and no superuser. What Postgres 15 and later share.

-- Who this catalog is. The storage root carries the same ids, so that a catalog and a storage that do not belong
-- together are noticed before either is changed.
CREATE TABLE catalog_identity (
    only_one    boolean PRIMARY KEY DEFAULT true CHECK (only_one),
    catalog_id  uuid NOT NULL DEFAULT gen_random_uuid(),
    incarnation uuid NOT NULL DEFAULT gen_random_uuid(),  -- `rebuild` starts a new one
    created_at  timestamptz NOT NULL DEFAULT clock_timestamp()
);
INSERT INTO catalog_identity DEFAULT VALUES;

-- Where files are. The root of a target carries its root_id in a marker, so that one catalog never has two.
CREATE TABLE storage_targets (
    name       text PRIMARY KEY,
    root_id    uuid NOT NULL,
    claimed_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- What never changes after a dataset's creation, except that the first append fixes key_names.
CREATE TABLE datasets (
    dataset_id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name             text NOT NULL,
    incarnation      uuid NOT NULL UNIQUE,                -- receipts and tickets carry it
    timestamp_column text NOT NULL,
    window_length    text NOT NULL,                       -- 15m, 1h, 1d, week, month, year
    row_order        text NOT NULL CHECK (row_order IN ('ordered', 'sort', 'any')),
    evolution        text NOT NULL CHECK (evolution IN ('additive', 'none')),
    bounds           jsonb NOT NULL DEFAULT '{}',         -- min, max (RFC 3339), future_tolerance_s
    key_names        text[],                              -- sorted; null until the first append
    storage          text NOT NULL DEFAULT 'default',     -- name of the storage target
    created_at       timestamptz NOT NULL DEFAULT clock_timestamp(),
    dropped_at       timestamptz
);
CREATE UNIQUE INDEX datasets_live_name ON datasets (lower(name)) WHERE dropped_at IS NULL;

-- The version counter, in a narrow table of its own because every commit updates it. Its row lock orders all commits
-- of a dataset. The fillfactor keeps the updates on one page.
CREATE TABLE dataset_heads (
    dataset_id     bigint PRIMARY KEY REFERENCES datasets,
    version        bigint NOT NULL,
    schema_version integer NOT NULL,
    history_floor  bigint NOT NULL DEFAULT 0,             -- older versions cannot be read any more
    committed_at   timestamptz NOT NULL                   -- of `version`; never goes back
) WITH (fillfactor = 20);

-- One row for each commit: the history of a dataset.
CREATE TABLE versions (
    dataset_id   bigint NOT NULL REFERENCES datasets,
    version      bigint NOT NULL,
    kind         text NOT NULL CHECK (kind IN ('append', 'seal', 'drop', 'expire')),
    committed_at timestamptz NOT NULL,
    appends      integer NOT NULL,
    rows         bigint NOT NULL,
    PRIMARY KEY (dataset_id, version)
);
CREATE INDEX versions_by_time ON versions (dataset_id, committed_at, version);

CREATE TABLE schema_versions (
    dataset_id     bigint NOT NULL REFERENCES datasets,
    schema_version integer NOT NULL,
    arrow_schema   bytea NOT NULL,                        -- an Arrow IPC schema message
    added_version  bigint NOT NULL,                       -- the first version that has this schema
    PRIMARY KEY (dataset_id, schema_version)
);

-- One row for each idempotency key that is taken: by an append that committed, or by `abandon`, which fences the key.
CREATE TABLE appends (
    append_id       uuid PRIMARY KEY,
    dataset_id      bigint NOT NULL REFERENCES datasets,
    idempotency_key text NOT NULL,
    state           text NOT NULL CHECK (state IN ('committed', 'abandoned')),
    version         bigint,
    fingerprint     text,
    rows            bigint,
    bytes           bigint,
    principal       text,                                 -- who put it; null while nobody is authenticated
    receipt         jsonb,                                -- as first answered
    committed_at    timestamptz NOT NULL,
    CONSTRAINT appends_idempotency_key UNIQUE (dataset_id, idempotency_key),
    CHECK (state = 'abandoned' OR (version IS NOT NULL AND fingerprint IS NOT NULL AND receipt IS NOT NULL))
);

-- What holds rows: a DuckDB file, an Arrow file, or a blob here.
CREATE TABLE holders (
    holder_id  uuid PRIMARY KEY,
    dataset_id bigint NOT NULL REFERENCES datasets,
    form       text NOT NULL CHECK (form IN ('duckdb', 'arrow', 'inline')),
    storage    text,                                      -- storage target of a file
    path       text,                                      -- of a file, relative to the root of its storage target
    blob       bytea,                                     -- the rows of an inline holder, as an Arrow IPC stream
    bytes      bigint NOT NULL,
    checksum   text NOT NULL,                             -- of the file's or blob's bytes: xxh3:<hex>
    created_at timestamptz NOT NULL,
    CHECK ((form = 'inline') = (blob IS NOT NULL)),
    CHECK ((form = 'inline') = (path IS NULL)),
    UNIQUE (storage, path)
);

-- The unit of visibility: the rows of one partition in one holder. A manifest at version v is the slices with
-- added_version <= v and (removed_version is null or v < removed_version).
CREATE TABLE slices (
    slice_id        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    dataset_id      bigint NOT NULL REFERENCES datasets,
    holder_id       uuid NOT NULL REFERENCES holders,
    key             text COLLATE "C" NOT NULL,            -- canonical JSON of the semantic key
    window_start    timestamptz NOT NULL,
    window_end      timestamptz NOT NULL,
    schema_version  integer NOT NULL,                     -- current when it was committed; the file has its own schema
    first_batch     integer,                              -- of an Arrow file: the run of record batches
    batches         integer,
    rows            bigint NOT NULL CHECK (rows > 0),
    bytes           bigint NOT NULL,
    min_ts_ns       numeric(30) NOT NULL,                 -- of the timestamp column, nanoseconds since the epoch, UTC
    max_ts_ns       numeric(30) NOT NULL,
    digest          text NOT NULL,                        -- payload digest of these rows in their stored order
    added_version   bigint NOT NULL,
    removed_version bigint,
    CHECK (removed_version > added_version)
);
CREATE INDEX slices_by_partition ON slices (dataset_id, window_start, key, added_version, slice_id);
CREATE INDEX slices_by_holder ON slices (holder_id);

-- Which appends a slice's rows came from, in their order in it.
CREATE TABLE slice_appends (
    slice_id  bigint NOT NULL REFERENCES slices,
    position  integer NOT NULL,
    append_id uuid NOT NULL REFERENCES appends,
    rows      bigint NOT NULL,
    PRIMARY KEY (slice_id, position)
);
CREATE INDEX slice_appends_by_append ON slice_appends (append_id);

-- One row for each run of a server. Only this database's clock counts, and only for liveness.
CREATE TABLE server_leases (
    run_id           uuid PRIMARY KEY,
    address          text NOT NULL,
    software_version text NOT NULL,
    started_at       timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires_at       timestamptz NOT NULL
);

-- Recorded before the bytes are written, so that nothing is ever lost track of. A commit takes them; whoever sweeps
-- condemns them first, and a commit whose intent was condemned aborts.
CREATE TABLE intents (
    holder_id    uuid PRIMARY KEY,
    run_id       uuid NOT NULL REFERENCES server_leases,
    storage      text NOT NULL,
    path         text NOT NULL,
    recorded_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    condemned_at timestamptz
);
CREATE INDEX intents_by_run ON intents (run_id);
