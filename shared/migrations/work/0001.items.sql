-- Long work as leased rows. Every time is the database's own clock.

create sequence work.tokens;

create table work.items (
    queue text not null,
    key text not null,
    payload jsonb not null,
    state text not null default 'pending'
        check (state in ('pending', 'running', 'succeeded', 'failed', 'cancelled')),
    attempt integer not null default 0,
    token bigint not null default 0,
    worker text,
    lease_until timestamptz,
    heartbeat_at timestamptz,
    progress jsonb,
    not_before timestamptz not null default now(),
    -- When somebody may claim the row: a pending one once it is due, a running one once its lease is over.
    due_at timestamptz generated always as (
        case state when 'pending' then not_before when 'running' then lease_until end
    ) stored,
    error text,
    correlation_id text not null default '',
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    finished_at timestamptz,
    primary key (queue, key)
);

create index items_due on work.items (queue, due_at) where due_at is not null;
create index items_worker on work.items (worker) where state = 'running';

create view api.work as
select
    queue, key, payload, state, attempt, worker, lease_until, heartbeat_at, progress, not_before, error,
    correlation_id, created_at, updated_at, finished_at
from work.items;
