CREATE VIEW api.digest_history AS
SELECT bucket, key, nullif(version_id, '') AS version_id, etag, size, digests, status, verification, mismatched,
       attempts, error, correlation_id, current, revision, created_at, updated_at
FROM hasher.digests;
