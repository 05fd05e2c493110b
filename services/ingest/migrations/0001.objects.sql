CREATE TABLE ingest.objects (
    bucket text NOT NULL,
    key text COLLATE "C" NOT NULL,
    state text NOT NULL CHECK (state IN ('stored', 'removed')),
    version_id text,
    etag text,
    size bigint,
    content_type text,
    metadata jsonb NOT NULL DEFAULT '{}',
    sequencer text,
    revision bigint NOT NULL,
    seen_by text NOT NULL,
    sweep_id text,
    correlation_id text NOT NULL,
    occurred_at timestamptz,
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (bucket, key)
);

CREATE TABLE ingest.doubts (
    topic text NOT NULL,
    partition integer NOT NULL,
    record_offset bigint NOT NULL,
    record_key bytea,
    record_value bytea,
    due_at timestamptz NOT NULL,
    PRIMARY KEY (topic, partition, record_offset)
);
CREATE INDEX doubts_due ON ingest.doubts (due_at);

CREATE TABLE ingest.sweeps (
    sweep_id text PRIMARY KEY,
    buckets text[] NOT NULL,
    prefix text NOT NULL DEFAULT '',
    listed bigint NOT NULL DEFAULT 0,
    missed bigint NOT NULL DEFAULT 0,
    late bigint NOT NULL DEFAULT 0,
    vanished bigint NOT NULL DEFAULT 0,
    started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    finished_at timestamptz
);

CREATE VIEW api.objects AS
SELECT bucket, key, version_id, etag, size, content_type, metadata, sequencer, revision, seen_by, state,
       correlation_id, occurred_at AS last_modified, updated_at
FROM ingest.objects;

CREATE VIEW api.sweeps AS
SELECT sweep_id, buckets, prefix, listed, missed, late, vanished, started_at, finished_at FROM ingest.sweeps;
