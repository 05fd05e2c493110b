"""Facts in, the timeline out."""

from shared.bus import Router

router = Router("ingress")
