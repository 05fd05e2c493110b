-- What could not be loaded, and why: objects whose load failed, and datasets that cannot be used. A failure changes nothing
-- else of a source: the rows of its last version stay, and whoever asks for the object next loads it.

ALTER TABLE etl.sources ADD COLUMN failure text NOT NULL DEFAULT '', ADD COLUMN failed_at timestamptz;
CREATE INDEX failed_sources ON etl.sources (dataset) WHERE failure <> '';

-- Apart from etl.datasets, whose names are tables of etl's: a section may be called like any other table.
CREATE TABLE etl.refused (name text PRIMARY KEY, reason text NOT NULL);

CREATE OR REPLACE VIEW api.datasets AS
SELECT name, coalesce(datasets.definition, '{}') AS definition, exports.rows AS exported_rows, exports.written_at AS exported_at,
       coalesce(exports.written < exports.changed, true) AS is_behind,
       CASE
           WHEN refused.reason IS NOT NULL THEN 'refused'
           WHEN trouble.failed > 0 OR trouble.last_load = 'failed' THEN 'failed'
           WHEN coalesce(exports.written < exports.changed, true) THEN 'behind'
           ELSE 'up to date'
       END AS state,
       trouble.failed, coalesce(refused.reason, '') AS error
FROM etl.datasets FULL JOIN etl.refused USING (name) LEFT JOIN etl.exports ON exports.dataset = name
CROSS JOIN LATERAL (SELECT
    (SELECT count(*) FROM etl.sources WHERE sources.dataset = name AND sources.failure <> '') AS failed,
    (
        SELECT loads.state FROM etl.loads WHERE loads.dataset = name AND loads.finished_at IS NOT NULL
        ORDER BY loads.finished_at DESC LIMIT 1
    ) AS last_load
) AS trouble;

CREATE OR REPLACE VIEW api.sources AS
SELECT dataset, kind, bucket, key, etag, size, stored_at, rows, rejected, reason, correlation_id, loaded_at,
       failure, failed_at
FROM etl.sources WHERE etag IS NOT NULL OR failure <> '';

CREATE OR REPLACE VIEW api.rejects AS
SELECT sources.dataset, sources.bucket, sources.key, rejects.line AS row, rejects."column", rejects.value,
       rejects.code, rejects.reason, sources.loaded_at AS rejected_at
FROM etl.rejects JOIN etl.sources ON sources.id = rejects.source_id
UNION ALL
SELECT sources.dataset, sources.bucket, sources.key, 0, '', '', 'LOAD_FAILED', sources.failure, sources.failed_at
FROM etl.sources WHERE sources.failure <> '';
