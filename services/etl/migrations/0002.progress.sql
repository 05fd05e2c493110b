-- How far a load is that runs: objects listed, how many of them differ, the share that is done, the rate, and what is left.

CREATE OR REPLACE VIEW api.loads AS
SELECT loads.load_id, loads.dataset, loads.why, loads.state, loads.listed, loads.changed, loads.removed, loads.rows,
       loads.rejected, loads.error, loads.requested_at, loads.started_at, loads.finished_at,
       extract(epoch FROM coalesce(loads.finished_at, clock_timestamp()) - loads.started_at)::float8 AS seconds,
       item.progress
FROM etl.loads LEFT JOIN work.items AS item
    ON item.queue = 'etl.loads' AND item.key = loads.load_id || '/' || loads.dataset AND item.state = 'running';
