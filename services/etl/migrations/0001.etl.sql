CREATE TABLE etl.datasets (
    name text PRIMARY KEY,
    definition jsonb NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- One row for each file and image. Whoever changes what follows from a source proves by `fence` that nobody did since
-- it looked at the bucket. A removed one stays for a while without an etag, so that its fence does.
CREATE TABLE etl.sources (
    id bigint GENERATED ALWAYS AS IDENTITY UNIQUE,
    bucket text NOT NULL,
    key text COLLATE "C" NOT NULL,
    dataset text NOT NULL,
    kind text NOT NULL CHECK (kind IN ('rows', 'image')),
    fence bigint NOT NULL DEFAULT 0,
    revision bigint NOT NULL DEFAULT 0,
    etag text,
    size bigint,
    stored_at timestamptz,
    rows bigint NOT NULL DEFAULT 0,
    rejected bigint NOT NULL DEFAULT 0,
    reason text NOT NULL DEFAULT '',
    -- whether the rejects that are kept as a file differ from etl.rejects
    is_stale boolean NOT NULL DEFAULT false,
    has_rejects_file boolean NOT NULL DEFAULT false,
    -- what the hasher told, and of which version
    hashed_etag text,
    hashed_revision bigint NOT NULL DEFAULT 0,
    digests jsonb NOT NULL DEFAULT '{}',
    correlation_id text NOT NULL DEFAULT '',
    loaded_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (bucket, key)
);
CREATE INDEX sources_by_dataset ON etl.sources (dataset, bucket, key);
CREATE INDEX stale_sources ON etl.sources (dataset) WHERE is_stale;

CREATE TABLE etl.images (
    source_id bigint PRIMARY KEY REFERENCES etl.sources (id) ON DELETE CASCADE,
    dataset text NOT NULL,
    item text COLLATE "C" NOT NULL,
    content_type text NOT NULL,
    width integer,
    height integer
);
CREATE INDEX images_by_item ON etl.images (dataset, item);

CREATE TABLE etl.rejects (
    source_id bigint NOT NULL REFERENCES etl.sources (id) ON DELETE CASCADE,
    -- 0: the file as a whole
    line bigint NOT NULL,
    "column" text NOT NULL DEFAULT '',
    value text NOT NULL DEFAULT '',
    code text NOT NULL,
    reason text NOT NULL
);
CREATE INDEX rejects_by_source ON etl.rejects (source_id, line);

-- What has changed in a dataset's table, and which of it its files show.
CREATE TABLE etl.exports (
    dataset text PRIMARY KEY,
    changed bigint NOT NULL DEFAULT 1,
    changed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- the first change that no file shows
    dirty_since timestamptz DEFAULT clock_timestamp(),
    written bigint NOT NULL DEFAULT 0,
    written_at timestamptz,
    rows bigint,
    etags jsonb NOT NULL DEFAULT '{}'
);

CREATE TABLE etl.loads (
    load_id text NOT NULL,
    dataset text NOT NULL,
    why text NOT NULL,
    state text NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'running', 'succeeded', 'failed')),
    listed bigint NOT NULL DEFAULT 0,
    changed bigint NOT NULL DEFAULT 0,
    removed bigint NOT NULL DEFAULT 0,
    rows bigint NOT NULL DEFAULT 0,
    rejected bigint NOT NULL DEFAULT 0,
    error text,
    correlation_id text NOT NULL,
    requested_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    started_at timestamptz,
    finished_at timestamptz,
    PRIMARY KEY (load_id, dataset)
);
CREATE INDEX loads_by_time ON etl.loads (requested_at DESC);

-- What a spreadsheet would run as a formula is shown as text.
CREATE FUNCTION api.cell(value text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS
$$ SELECT CASE WHEN value ~ '^[=+@\t\r-]' THEN '''' || value ELSE value END $$;

-- Whole calendar years in UTC; who was born on 29 February has a birthday on 1 March in other years.
CREATE FUNCTION api.age(birthts bigint) RETURNS integer LANGUAGE sql STABLE PARALLEL SAFE AS
$$
SELECT extract(year FROM age(
    (now() AT TIME ZONE 'UTC')::date, (to_timestamp(birthts / 1000.0) AT TIME ZONE 'UTC')::date
))::integer
$$;

CREATE VIEW api.datasets AS
SELECT datasets.name, datasets.definition, exports.rows AS exported_rows, exports.written_at AS exported_at,
       coalesce(exports.written < exports.changed, true) AS is_behind
FROM etl.datasets LEFT JOIN etl.exports ON exports.dataset = datasets.name;

CREATE VIEW api.sources AS
SELECT dataset, kind, bucket, key, etag, size, stored_at, rows, rejected, reason, correlation_id, loaded_at
FROM etl.sources WHERE etag IS NOT NULL;

CREATE VIEW api.rejects AS
SELECT sources.dataset, sources.bucket, sources.key, rejects.line AS row, rejects."column", rejects.value,
       rejects.code, rejects.reason, sources.loaded_at AS rejected_at
FROM etl.rejects JOIN etl.sources ON sources.id = rejects.source_id;

CREATE VIEW api.loads AS
SELECT load_id, dataset, why, state, listed, changed, removed, rows, rejected, error, requested_at, started_at,
       finished_at, extract(epoch FROM coalesce(finished_at, clock_timestamp()) - started_at)::float8 AS seconds
FROM etl.loads;
