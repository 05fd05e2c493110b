"""Buckets, and the notification rules that make their objects facts on the two lanes."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from shared.errors import Rejected
from shared.settings import Settings
from shared.storage import ObjectRef
from shared.storage.admin_client import open_client, translate_errors

EVENTS: Final = ("s3:ObjectCreated:*", "s3:ObjectRemoved:*")
LANES: Final = {"LIVE": "arn:minio:sqs::LIVE:kafka", "SAFE": "arn:minio:sqs::SAFE:kafka"}
"""The server's notification targets: LIVE at once and at most once, SAFE through a queue on its disk."""

Rule = Mapping[str, Any]


async def ensure_buckets(settings: Settings, buckets: Iterable[str]) -> list[str]:
    """Create the buckets that are missing."""
    async with open_client(settings) as client:
        with translate_errors(settings, "list buckets of", ObjectRef("", "")):
            there = {bucket["Name"] for bucket in (await client.list_buckets())["Buckets"]}
        missing = [bucket for bucket in dict.fromkeys(buckets) if bucket not in there]
        for bucket in missing:
            with translate_errors(settings, "create", ObjectRef(bucket, "")):
                await _create(client, bucket, settings.s3_region)
    return [f"bucket {bucket}: created" for bucket in missing]


async def ensure_rules(settings: Settings, buckets: Iterable[str]) -> list[str]:
    """Let every creation and removal in these buckets be told on both lanes; the rules of others stay.

    Raises:
        Outage: the object store does not answer.
        Rejected: NO_SUCH_BUCKET, ACCESS_DENIED, or NO_SUCH_TARGET when the server does not know the lanes.

    """
    changed = []
    async with open_client(settings) as client:
        for bucket in buckets:
            current = await _rules(client, settings, bucket)
            if lanes := missing_lanes(current):
                await _write(client, settings, bucket, add_rules(current))
                changed.append(f"bucket {bucket}: notification rules set for {' and '.join(lanes)}")
    return changed


async def missing_rules(settings: Settings, buckets: Iterable[str]) -> list[str]:
    """Name what these buckets lack, such as `inbox: LIVE`."""
    async with open_client(settings) as client:
        return [
            f"{bucket}: {lane}" for bucket in buckets for lane in missing_lanes(await _rules(client, settings, bucket))
        ]


def missing_lanes(configuration: Mapping[str, Any]) -> list[str]:
    """Name the lanes that no rule of a bucket feeds with everything."""
    rules = configuration.get("QueueConfigurations", ())
    return [lane for lane, arn in LANES.items() if not any(_tells_all(rule, arn) for rule in rules)]


def add_rules(configuration: Mapping[str, Any]) -> dict[str, Any]:
    """Give a bucket's whole configuration with our rules in place and everybody else's untouched."""
    ours = [_rule(lane) for lane in missing_lanes(configuration)]
    replaced = {rule["Id"] for rule in ours}
    others: Sequence[Rule] = configuration.get("QueueConfigurations", ())
    kept = [rule for rule in others if rule.get("Id") not in replaced]
    return {**configuration, "QueueConfigurations": [*kept, *ours]}


def _rule(lane: str) -> Rule:
    return {"Id": f"penstock-{lane.lower()}", "QueueArn": LANES[lane], "Events": list(EVENTS)}


def _tells_all(rule: Rule, arn: str) -> bool:
    filters = rule.get("Filter", {}).get("Key", {}).get("FilterRules", ())
    return rule["QueueArn"] == arn and set(EVENTS) <= set(rule["Events"]) and not filters


async def _create(client: Any, bucket: str, region: str) -> None:
    # us-east-1 is S3's nameless region: naming it is an error
    place = {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}
    try:
        await client.create_bucket(Bucket=bucket, **place)
    except client.exceptions.BucketAlreadyOwnedByYou:
        # another process is doing the same
        return


async def _rules(client: Any, settings: Settings, bucket: str) -> dict[str, Any]:
    with translate_errors(settings, "read the notification rules of", ObjectRef(bucket, "")):
        answer = await client.get_bucket_notification_configuration(Bucket=bucket)
    return {name: value for name, value in answer.items() if name != "ResponseMetadata"}


async def _write(client: Any, settings: Settings, bucket: str, configuration: Mapping[str, Any]) -> None:
    with translate_errors(settings, "set the notification rules of", ObjectRef(bucket, "")):
        try:
            await client.put_bucket_notification_configuration(Bucket=bucket, NotificationConfiguration=configuration)
        except client.exceptions.ClientError as error:
            if error.response["Error"]["Code"] != "InvalidArgument":
                raise
            raise _no_target(settings, error) from error


def _no_target(settings: Settings, error: Any) -> Rejected:
    told = error.response["Error"].get("Message", "").rstrip(".")
    return Rejected(
        "NO_SUCH_TARGET",
        f"object store {settings.s3_endpoint} does not take the notification rules ({told}): "
        "start it with the Kafka targets LIVE and SAFE (MINIO_NOTIFY_KAFKA_ENABLE_LIVE=on ...)",
    )
