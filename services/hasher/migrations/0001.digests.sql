CREATE TABLE hasher.digests (
    bucket text NOT NULL,
    key text COLLATE "C" NOT NULL,
    version_id text NOT NULL DEFAULT '',
    etag text,
    size bigint,
    digests jsonb NOT NULL DEFAULT '{}',
    status text NOT NULL
        CHECK (status IN ('pending', 'running', 'succeeded', 'failed', 'superseded', 'gone')),
    verification text CHECK (verification IN ('verified', 'mismatch')),
    mismatched text[] NOT NULL DEFAULT '{}',
    attempts integer NOT NULL DEFAULT 0,
    error text,
    revision bigint NOT NULL,
    correlation_id text NOT NULL,
    current boolean NOT NULL DEFAULT true,
    kept boolean NOT NULL DEFAULT false,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (bucket, key, version_id)
);

CREATE VIEW api.digests AS
SELECT bucket, key, nullif(version_id, '') AS version_id, etag, size, digests, status, verification, mismatched,
       attempts, error, correlation_id, created_at, updated_at
FROM hasher.digests WHERE current;
