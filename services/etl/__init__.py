"""Load files and images into tables as they arrive.

Consumes `objects.changed.v1`, `objects.hashed.v1` and `etl.requested.v1`; publishes `etl.loaded.v1` and
`etl.completed.v1`; stores `etl.sources`, `etl.images`, `etl.rejects`, `etl.exports`, `etl.loads`, `etl.datasets` and a
table for each dataset.
"""
