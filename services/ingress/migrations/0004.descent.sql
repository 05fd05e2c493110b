-- Which token made a token or a webhook, so that what was made ends with its maker. Rows from before have the maker's
-- name alone: the last token of that name that was made before them, or else the first token.
ALTER TABLE ingress.tokens ADD COLUMN parent_id text;
UPDATE ingress.tokens AS made SET parent_id = CASE WHEN made.created_by = 'everybody' THEN 'everybody' ELSE coalesce((
    SELECT id FROM ingress.tokens AS maker
    WHERE maker.name = made.created_by AND maker.id <> made.id AND maker.created_at < made.created_at
    ORDER BY maker.created_at DESC LIMIT 1
), 'root') END;
ALTER TABLE ingress.tokens ALTER COLUMN parent_id SET NOT NULL;

-- Nothing that was made outlives its maker, or sends more than it.
WITH RECURSIVE line AS (
    SELECT id, revoked_at, expires_at, rate FROM ingress.tokens WHERE parent_id IN ('root', 'everybody')
    UNION ALL
    SELECT
        made.id, least(made.revoked_at, line.revoked_at), least(made.expires_at, line.expires_at),
        least(made.rate, line.rate)
    FROM ingress.tokens AS made JOIN line ON made.parent_id = line.id
)
UPDATE ingress.tokens AS made SET revoked_at = line.revoked_at, expires_at = line.expires_at, rate = line.rate
FROM line WHERE made.id = line.id;

CREATE INDEX tokens_by_parent ON ingress.tokens (parent_id);

-- A name is unique among the tokens of one maker, so that no other maker learns from a conflict that it exists.
DROP INDEX ingress.tokens_live_name;
CREATE UNIQUE INDEX tokens_live_name ON ingress.tokens (parent_id, name) WHERE revoked_at IS NULL;

ALTER TABLE ingress.webhooks ADD COLUMN token_id text;
UPDATE ingress.webhooks AS made SET token_id = CASE WHEN made.created_by = 'everybody' THEN 'everybody' ELSE coalesce((
    SELECT id FROM ingress.tokens AS maker
    WHERE maker.name = made.created_by AND maker.created_at < made.created_at + interval '1 minute' -- two clocks
    ORDER BY maker.created_at DESC LIMIT 1
), 'root') END;
ALTER TABLE ingress.webhooks ALTER COLUMN token_id SET NOT NULL;
