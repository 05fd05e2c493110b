"""The router binds the arguments of handlers by name when a service starts."""

import pytest

from shared.bus import Router
from shared.errors import PenstockError
from shared.events import ObjectChanged
from shared.settings import Settings
from shared.testing.bus import connected, record_of, wire

CHANGE = ObjectChanged(change="removed", bucket="inbox", key="a", revision=1, correlation_id="1" * 32)


@pytest.fixture
def router():
    router = Router("counter")

    @router.on(ObjectChanged)
    async def count(batch, counts, step):
        counts.append(len(batch) * step)

    return router


async def test_handler_gets_the_dependencies_with_the_names_of_its_arguments(router):
    wired, counts = wire(Settings(), router), []
    wired.attach(counts=counts, step=10, unused=None)
    async with connected(wired):
        await wired.deliver(record_of(CHANGE), record_of(CHANGE))
    assert counts == [20]


def test_missing_dependency_fails_before_any_subscription_and_names_handler_and_argument(router):
    wired = wire(Settings(), router)
    with pytest.raises(PenstockError, match=r"handler .*\.count lacks step: add it to the Resources of build_app"):
        wired.attach(counts=[])
    assert list(wired.broker.subscribers) == []


async def test_two_attached_brokers_have_dependencies_of_their_own(router):
    wired = [wire(Settings(), router) for _ in range(2)]
    counts = [[], []]
    for one, own in zip(wired, counts, strict=True):
        one.attach(counts=own, step=1)
    async with connected(wired[0]):
        await wired[0].deliver(record_of(CHANGE))
    assert counts == [[1], []]
