"""Serve the HTTP API and the web pages: stream uploads into buckets, publish requests, show what was recorded.

Consumes `objects.changed.v1`, `objects.hashed.v1`, `sweeps.completed.v1`, `etl.loaded.v1`, `etl.completed.v1`,
`dead-letters.settled.v1` and the dead letter topics of the other services: `minio.live.ingest.dlq`,
`minio.safe.ingest.dlq`, `sweeps.requested.v1.ingest.dlq`, `objects.changed.v1.hasher.dlq`,
`objects.changed.v1.etl.dlq`, `objects.hashed.v1.etl.dlq` and `etl.requested.v1.etl.dlq`; publishes
`sweeps.requested.v1` and `etl.requested.v1`; stores `ingress.facts`, `ingress.tokens` and `ingress.webhooks`.
"""
