-- Groups whose items run a few at a time, and requests to cancel an item that has begun.

alter table work.items
    add column group_key text not null default '',
    -- A holder stops and confirms; an item whose holder died, or that waits, is claimed once more to confirm.
    add column cancel_requested boolean not null default false;

create index items_group on work.items (queue, group_key) where state = 'running' and group_key <> '';

create or replace view api.work as
select
    queue, key, payload, state, attempt, worker, lease_until, heartbeat_at, progress, not_before, error,
    correlation_id, created_at, updated_at, finished_at, group_key, cancel_requested
from work.items;
