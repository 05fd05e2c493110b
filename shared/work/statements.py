"""SQL of the queue. Every write of a holder names its fencing token, and returns no row once that is not the newest."""

from typing import Final

ADD: Final = """
with added as (
    insert into work.items as old (queue, key, payload, correlation_id, group_key, not_before)
    values ($1, $2, $3, $4, $6, coalesce($7, now()))
    on conflict (queue, key) do update set
        payload = excluded.payload, correlation_id = excluded.correlation_id, group_key = excluded.group_key,
        state = 'pending', attempt = 0, worker = null, lease_until = null, heartbeat_at = null, progress = null,
        error = null, cancel_requested = false, not_before = excluded.not_before, updated_at = now(),
        finished_at = null
    where old.state in ('failed', 'cancelled')
        or (old.state = 'succeeded' and old.payload <> excluded.payload)
    returning queue
)
select pg_notify($5, queue) from added
"""

_LEASE: Final = """
update work.items item set
    state = 'running', attempt = attempt + 1, token = nextval('work.tokens'), worker = $2,
    lease_until = now() + $4 * interval '1 second', heartbeat_at = now(), error = null, updated_at = now()
from due where item.queue = $1 and item.key = due.key
returning item.queue, item.key, item.payload, item.attempt, item.token, item.correlation_id, item.progress,
    item.group_key as group, item.cancel_requested, due.taken_over
"""

CLAIM: Final = f"""
with due as (
    select key, state = 'running' as taken_over from work.items
    where queue = $1 and due_at <= now()
    order by due_at limit $3 for update skip locked
)
{_LEASE}
"""  # noqa: S608 - composed of constants

LOCK_GROUPS: Final = """
select pg_advisory_xact_lock(hashtextextended('penstock.work.' || $1, 0)),
    set_config('idle_in_transaction_session_timeout', '5s', true)
"""
"""Serializes claims of a queue until the end of the transaction; a claimer that is stopped meanwhile loses the lock."""

_RUNNING: Final = """
running as (
    select group_key, count(*) as items from work.items
    where queue = $1 and state = 'running' and group_key <> '' group by group_key
)
"""

CLAIM_IN_GROUPS: Final = f"""
with {_RUNNING}, ranked as (
    select key, state = 'running' or group_key = '' or coalesce(running.items, 0) + row_number() over (
        partition by group_key, state order by due_at, key
    ) <= $5 as is_free
    from work.items left join running using (group_key) where queue = $1 and due_at <= now()
), due as (
    select key, state = 'running' as taken_over from work.items
    where queue = $1 and due_at <= now() and key in (select key from ranked where is_free)
    order by due_at limit $3 for update skip locked
)
{_LEASE}
"""  # noqa: S608 - composed of constants
"""Like CLAIM; a takeover leaves the number of running items of its group as it is."""

HEARTBEAT: Final = """
update work.items set
    lease_until = now() + $4 * interval '1 second', heartbeat_at = now(), updated_at = now(),
    progress = coalesce($5, progress)
where queue = $1 and key = $2 and token = $3 and state in ('running', 'succeeded')
returning cancel_requested
"""

COMPLETE: Final = """
update work.items set
    state = 'succeeded', error = null, worker = null, lease_until = null,
    finished_at = coalesce(finished_at, now()), updated_at = now()
where queue = $1 and key = $2 and token = $3 and (state = 'running' or ($4 and state = 'succeeded'))
returning true
"""

FAIL: Final = """
update work.items set
    state = case when $5::float8 is null then 'failed' else 'pending' end, error = $4,
    not_before = now() + case when cancel_requested then 0 else coalesce($5, 0) end * interval '1 second',
    finished_at = case when $5 is null then now() end, worker = null, lease_until = null, updated_at = now()
where queue = $1 and key = $2 and token = $3 and state = 'running'
returning true
"""

POSTPONE: Final = """
update work.items set
    state = 'pending', attempt = attempt - 1, error = $4, progress = coalesce($6, progress),
    not_before = now() + case when cancel_requested then 0 else $5::float8 end * interval '1 second',
    worker = null, lease_until = null, updated_at = now()
where queue = $1 and key = $2 and token = $3 and state = 'running'
returning true
"""

_RELEASE: Final = """
update work.items set
    state = 'pending', attempt = attempt - 1, not_before = now(), worker = null, lease_until = null,
    updated_at = now()
where queue = $1 and state = 'running'
"""
RELEASE: Final = f"{_RELEASE} and key = $2 and token = $3 returning true"
RELEASE_ALL: Final = f"{_RELEASE} and worker = $2"

CANCEL: Final = """
with cancelled as (
    update work.items set
        state = case when state = 'pending' and progress is null then 'cancelled' else state end,
        cancel_requested = state = 'running' or progress is not null,
        finished_at = case when state = 'pending' and progress is null then now() end,
        not_before = case when state = 'pending' then now() else not_before end,
        updated_at = now()
    where queue = $1 and key = $2 and state in ('pending', 'running')
    returning queue, state
)
select state, pg_notify(case state when 'running' then $4 else $3 end, queue) from cancelled
"""

CONFIRM_CANCEL: Final = """
update work.items set
    state = 'cancelled', worker = null, lease_until = null, finished_at = now(), updated_at = now()
where queue = $1 and key = $2 and token = $3 and state = 'running'
returning true
"""

STATE: Final = """
select state, attempt, progress, error, cancel_requested, not_before, created_at, updated_at, finished_at
from work.items where queue = $1 and key = $2
"""

PURGE: Final = """
delete from work.items
where queue = $1 and finished_at < now() - case state when 'failed' then $3::interval else $2::interval end
"""

SECONDS_UNTIL_DUE: Final = """
select extract(epoch from min(due_at) - now())::float8 from work.items where queue = $1 and due_at is not null
"""

SECONDS_UNTIL_DUE_IN_GROUPS: Final = f"""
with {_RUNNING}
select extract(epoch from min(due_at) - now())::float8 from work.items left join running using (group_key)
where queue = $1 and due_at is not null and (state = 'running' or coalesce(running.items, 0) < $2)
"""  # noqa: S608 - composed of constants
