CREATE TABLE ingress.facts (
    seq bigserial PRIMARY KEY,
    topic text NOT NULL,
    event_id text NOT NULL,
    type text NOT NULL,
    bucket text,
    key text COLLATE "C",
    correlation_id text NOT NULL DEFAULT '',
    at timestamptz NOT NULL,
    service text NOT NULL DEFAULT '',
    error text,
    body jsonb,
    partition integer NOT NULL,
    record_offset bigint NOT NULL,
    UNIQUE (topic, event_id)
);

CREATE INDEX facts_of_object ON ingress.facts (bucket, key, seq);
CREATE INDEX facts_by_time ON ingress.facts (at);

-- Its row says that the facts were read from the beginning of the topics; without it, they are read again.
CREATE TABLE ingress.rebuilt (
    what text PRIMARY KEY,
    at timestamptz NOT NULL DEFAULT clock_timestamp()
);

CREATE VIEW api.timeline AS
SELECT seq, at, service, type, bucket, key, correlation_id, error, body, topic, event_id, partition, record_offset
FROM ingress.facts;
