"""Spans by FastStream's own middleware, sent where `PENSTOCK_OTLP_ENDPOINT` says; without it nothing is even imported.

A batch has one span. The trace of a single object needs none: its id is the correlation id, in `traceparent` and logs.
"""

from typing import Any

from shared.settings import Settings


def tracing(settings: Settings, service: str) -> list[Any]:
    """Return the middleware that traces `service`, if tracing is wanted."""
    if not settings.otlp_endpoint:
        return []
    from faststream.kafka.opentelemetry import KafkaTelemetryMiddleware  # noqa: PLC0415 - only who traces pays
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
    from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415

    provider = TracerProvider(resource=Resource.create({"service.name": f"penstock-{service}"}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(settings.otlp_endpoint)))
    return [KafkaTelemetryMiddleware(tracer_provider=provider)]
