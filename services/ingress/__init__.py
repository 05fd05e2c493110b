"""The HTTP door: streams bytes into buckets, publishes requests, and shows what the others have recorded.

Consumes `objects.changed.v1`, `objects.hashed.v1`, `sweeps.completed.v1`, `etl.loaded.v1`, `etl.completed.v1`,
`dead-letters.settled.v1`, and the dead letters of the others, `minio.live.ingest.dlq`, `minio.safe.ingest.dlq`,
`sweeps.requested.v1.ingest.dlq`, `objects.changed.v1.hasher.dlq`, `objects.changed.v1.etl.dlq`,
`objects.hashed.v1.etl.dlq` and `etl.requested.v1.etl.dlq`; produces `sweeps.requested.v1` and `etl.requested.v1`; keeps
`ingress.facts`, `ingress.tokens` and `ingress.webhooks`.
"""
