-- Tokens, and the appends of a dataset by version: who may do what, and who did.
-- Servers that do not know them ask nobody for a token: they go on as they were started.
-- commits from 0005

-- A bearer token, tst_<token_id>_<secret>. The secret has 256 random bits and is kept as its SHA-256 alone.
CREATE TABLE access_tokens (
    token_id         text PRIMARY KEY,                                -- no secret
    principal        text NOT NULL,                                   -- whom it stands for; several tokens may be one's
    secret_hash      bytea NOT NULL,
    grants           text[] NOT NULL,                                 -- permission:glob
    -- Both on each server; null: the server's setting.
    max_running_puts integer CONSTRAINT access_tokens_max_running_puts_check CHECK (max_running_puts > 0),
    bytes_per_s      bigint CONSTRAINT access_tokens_bytes_per_s_check CHECK (bytes_per_s > 0),
    created_at       timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires_at       timestamptz,                                     -- null: never
    revoked_at       timestamptz
);

-- For `audit`: the appends of a dataset, newest first.
CREATE INDEX appends_by_version ON appends (dataset_id, version, append_id) WHERE state = 'committed';
