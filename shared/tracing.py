"""Trace with FastStream's middleware and send spans to `PENSTOCK_OTLP_ENDPOINT`; without it, import nothing.

A batch has one span. An object's trace id is its correlation id, in `traceparent` headers and logs.
"""

from typing import Any

from shared.settings import Settings


def tracing(settings: Settings, service: str) -> list[Any]:
    """Return the tracing middleware of `service`; empty if tracing is off."""
    if not settings.otlp_endpoint:
        return []
    from faststream.kafka.opentelemetry import KafkaTelemetryMiddleware  # noqa: PLC0415 - loaded only if tracing is on
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
    from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415

    provider = TracerProvider(resource=Resource.create({"service.name": f"penstock-{service}"}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(settings.otlp_endpoint)))
    return [KafkaTelemetryMiddleware(tracer_provider=provider)]
