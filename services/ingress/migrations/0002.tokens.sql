CREATE TABLE ingress.tokens (
    id text PRIMARY KEY,
    name text NOT NULL,
    hash bytea NOT NULL,
    scopes text[] NOT NULL,
    places text[] NOT NULL DEFAULT '{}',
    rate double precision CHECK (rate > 0),
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    created_by text NOT NULL,
    expires_at timestamptz,
    revoked_at timestamptz,
    last_used_at timestamptz
);

CREATE UNIQUE INDEX tokens_live_name ON ingress.tokens (name) WHERE revoked_at IS NULL;

CREATE TABLE ingress.logins (
    hash bytea PRIMARY KEY,
    token_id text NOT NULL,
    expires_at timestamptz NOT NULL,
    used_at timestamptz
);

CREATE TABLE ingress.sessions_ended (
    id text PRIMARY KEY,
    ended_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
