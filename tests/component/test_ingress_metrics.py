"""What the ingress counts, and what it refuses when the disk is full."""

import pytest
from prometheus_client import REGISTRY

from services.ingress.routes.metrics import METHODS
from shared.storage import ObjectRef
from tests.fakes.ingress import Ingress, settings

ROUTES = ["/files/", "/objects/inbox/a", "/files/upload_minio"]


def counted(name, **labels):
    return REGISTRY.get_sample_value(name, labels) or 0.0


async def test_requests_are_counted_by_route_not_by_path():
    ingress, route = Ingress(), "/files/{name:path}"
    await ingress.store.put(ObjectRef("inbox", "files/a"), b"12345")
    labels = {"method": "GET", "route": route}
    before = {status: counted("penstock_http_requests_total", **labels, status=status) for status in ("200", "404")}
    sent = counted("penstock_http_response_bytes_total", route=route)
    async with ingress.client() as client:
        await client.get("/files/a")
        assert counted("penstock_http_response_bytes_total", route=route) == sent + 5
        for number in range(3):
            await client.get(f"/files/missing-{number}")
        text = (await client.get("/metrics")).text
    assert counted("penstock_http_requests_total", **labels, status="200") == before["200"] + 1
    assert counted("penstock_http_requests_total", **labels, status="404") == before["404"] + 3
    assert counted("penstock_http_request_seconds_count", **labels) >= 4
    assert "missing-" not in text
    assert "disk_used " in text


async def test_received_bytes_are_counted():
    ingress, route = Ingress(), "/objects/{bucket}/{key:path}"
    before = counted("penstock_http_request_bytes_total", route=route)
    async with ingress.client() as client:
        await client.put("/objects/inbox/a", content=bytes(1000))
    assert counted("penstock_http_request_bytes_total", route=route) == before + 1000


async def test_unknown_methods_and_paths_create_no_series():
    ingress = Ingress()
    async with ingress.client() as client:
        for number in range(3):
            await client.request(f"ODD{number}", f"/no-such-{number}")
    methods = {sample.labels.get("method") for metric in REGISTRY.collect() for sample in metric.samples}
    routes = {sample.labels.get("route") for metric in REGISTRY.collect() for sample in metric.samples}
    assert methods <= {*METHODS, "other", None}
    assert not [route for route in routes if route and "no-such" in route]
    assert counted("penstock_http_requests_in_flight") == 0


@pytest.mark.parametrize("path", ROUTES)
async def test_upload_past_the_disk_threshold_is_refused(path):
    ingress = Ingress(settings=settings(disk_usage_threshold=0.0001))
    async with ingress.client() as client:
        if path.startswith("/objects"):
            answer = await client.put(path, content=b"x")
        else:
            field = "files" if "minio" in path else "file"
            answer = await client.post(
                path, files={field: ("a", b"x")}, data={"keys_prefix": "p"}, headers={"bucket": "inbox"}
            )
    assert (answer.status_code, answer.json()["code"]) == (507, "DISK_FULL")
    for bucket in ("inbox", "uploads"):
        assert [page async for page in ingress.store.list(bucket)] == []
