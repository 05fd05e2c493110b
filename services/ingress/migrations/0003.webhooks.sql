CREATE TABLE ingress.webhooks (
    id text PRIMARY KEY,
    url text NOT NULL,
    types text[] NOT NULL DEFAULT '{}',
    bucket text NOT NULL DEFAULT '',
    prefix text NOT NULL DEFAULT '',
    places text[] NOT NULL DEFAULT '{}',
    cursor bigint NOT NULL,
    created_by text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    enabled boolean NOT NULL DEFAULT true,
    failures integer NOT NULL DEFAULT 0,
    last_error text,
    last_delivered_at timestamptz,
    next_try_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- Who delivers now, until when; each claim has a token of its own, and writes of an older one do nothing.
    lease_token bigint NOT NULL DEFAULT 0,
    lease_until timestamptz NOT NULL DEFAULT '-infinity'
);

CREATE TABLE ingress.webhook_failures (
    webhook_id text NOT NULL REFERENCES ingress.webhooks (id) ON DELETE CASCADE,
    seq bigint NOT NULL,
    fact jsonb NOT NULL,
    attempts integer NOT NULL,
    error text NOT NULL,
    failed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    again boolean NOT NULL DEFAULT false,
    PRIMARY KEY (webhook_id, seq)
);
