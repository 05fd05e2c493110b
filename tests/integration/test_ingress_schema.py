"""Whatever the API's own document allows is answered as the document says, and never with an error of the server's."""

from http import HTTPStatus
from urllib.parse import urljoin

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import content_type_conformance, response_schema_conformance

from services.ingress.app import build_http

pytestmark = pytest.mark.integration

CHECKS = (not_a_server_error, content_type_conformance, response_schema_conformance)
ENDLESS = "/events"
EXAMPLES = 25
BEGINS = {"POST /multipart", "POST /tus/"}
API = schemathesis.openapi.from_dict(build_http().openapi())
OPERATIONS = [found.ok() for found in API.exclude(path=ENDLESS).get_all_operations()]


SERVICES = ("ingest", "hasher", "ingress")


@pytest.fixture(scope="module")
def server(stack):
    for name in SERVICES:
        stack.start_service(name, env={"PENSTOCK_RATE_LIMIT": "100000"})
    yield stack
    for name in SERVICES:
        stack.stop(name)


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.label)
def test_every_route_keeps_its_word(operation, server):
    """The examples are the same at every run."""

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=True,
        phases=(Phase.explicit, Phase.generate),
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy())
    def ask(case):
        options = {"headers": {"authorization": f"Bearer {server.env['PENSTOCK_TOKEN']}"}, "timeout": 30}
        answer = case.call_and_validate(base_url=server.env["PENSTOCK_HTTP_URL"], checks=CHECKS, **options)
        if operation.label in BEGINS and answer.status_code == HTTPStatus.CREATED:  # or it stays open for a week
            begun = answer.headers.get("location") or f"/multipart/{answer.json()['id']}"
            httpx.delete(urljoin(server.env["PENSTOCK_HTTP_URL"], begun), **options).raise_for_status()

    ask()
