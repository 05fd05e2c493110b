-- a removal of what was never known is remembered, so that no late copy of an older event counts as news, and not shown
ALTER TABLE ingest.objects ADD COLUMN announced boolean NOT NULL DEFAULT true;
CREATE INDEX objects_unannounced ON ingest.objects (updated_at) WHERE NOT announced;

CREATE OR REPLACE VIEW api.objects AS
SELECT bucket, key, version_id, etag, size, content_type, metadata, sequencer, revision, seen_by, state,
       correlation_id, occurred_at AS last_modified, updated_at
FROM ingest.objects WHERE announced;
