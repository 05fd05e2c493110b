import pytest

from services.catalogue import manifests
from services.cli.settings import CliSettings
from shared.provision.buckets import EVENTS, LANES, add_rules, missing_lanes
from shared.provision.users import policy, user_name
from shared.settings import Settings

USERS = manifests().s3_users
FOREIGN = {
    "Id": "theirs",
    "QueueArn": "arn:minio:sqs::THEIRS:webhook",
    "Events": ["s3:ObjectCreated:Put"],
    "Filter": {"Key": {"FilterRules": [{"Name": "prefix", "Value": "a/"}]}},
}


def rule(lane: str, **changes: object) -> dict[str, object]:
    return {"Id": f"penstock-{lane.lower()}", "QueueArn": LANES[lane], "Events": list(EVENTS), **changes}


def test_bucket_without_rules_misses_both_lanes():
    assert missing_lanes({}) == ["LIVE", "SAFE"]


def test_add_rules_covers_both_lanes_and_is_idempotent():
    once = add_rules({})
    assert missing_lanes(once) == []
    assert add_rules(once) == once


def test_add_rules_keeps_rules_of_others():
    before = {"QueueConfigurations": [FOREIGN], "TopicConfigurations": [{"Id": "t", "TopicArn": "arn:x"}]}
    after = add_rules(before)
    assert FOREIGN in after["QueueConfigurations"]
    assert after["TopicConfigurations"] == before["TopicConfigurations"]


def test_partial_rule_does_not_cover_a_lane():
    part = {"Filter": {"Key": {"FilterRules": [{"Name": "prefix", "Value": "a/"}]}}}
    assert missing_lanes({"QueueConfigurations": [rule("LIVE", **part), rule("SAFE", Events=[EVENTS[0]])]}) == [
        "LIVE",
        "SAFE",
    ]


def test_add_rules_replaces_our_changed_rule():
    after = add_rules({"QueueConfigurations": [rule("LIVE", Events=[EVENTS[0]]), rule("SAFE")]})
    assert sorted(r["Id"] for r in after["QueueConfigurations"]) == ["penstock-live", "penstock-safe"]
    assert missing_lanes(after) == []


def test_equal_rule_under_another_id_covers_the_lane():
    assert missing_lanes({"QueueConfigurations": [rule("LIVE", Id="mc"), rule("SAFE", Id="mc-2")]}) == []


def actions(service: str, **switches: object) -> dict[str, set[str]]:
    """What a service may do, by resource."""
    allowed: dict[str, set[str]] = {}
    settings = CliSettings(input_buckets=("in",), output_buckets=("out",), etl_output_bucket="out", **switches)
    for statement in policy(USERS[service], settings)["Statement"]:
        for resource in statement.get("Resource", ()) if statement["Effect"] == "Allow" else ():
            allowed.setdefault(resource, set()).update(statement["Action"])
    return allowed


def test_ingest_policy_allows_reading_inputs_and_setting_rules():
    assert actions("ingest") == {
        "arn:aws:s3:::in": {
            "s3:ListBucket",
            "s3:GetBucketNotification",
            "s3:PutBucketNotification",
            "s3:GetBucketVersioning",
            "s3:ListBucketVersions",
        },
        "arn:aws:s3:::in/*": {"s3:GetObject", "s3:GetObjectVersion"},
    }


def test_hasher_policy_allows_deletes_only_if_enabled():
    read = {"s3:GetObject", "s3:GetObjectVersion"}
    assert actions("hasher") == {"arn:aws:s3:::in": {"s3:ListBucket"}, "arn:aws:s3:::in/*": read}
    always = {"arn:aws:s3:::in": {"s3:ListBucket"}, "arn:aws:s3:::in/*": read}
    delete = {"s3:DeleteObject", "s3:DeleteObjectVersion"}
    assert actions("hasher", hasher_delete_after=True) == {**always, "arn:aws:s3:::inbox/uploads/*": delete}
    folders = {"hasher_delete_prefixes": ("a/", "b/c/"), "upload_bucket": "in"}
    deletes = {"arn:aws:s3:::in/a/*": delete, "arn:aws:s3:::in/b/c/*": delete}
    assert actions("hasher", hasher_delete_after=True, **folders) == {**always, **deletes}


@pytest.mark.parametrize("folder", ["", "uploads", "/uploads/", "*/", "up?/", "${aws:username}/"])
def test_delete_prefix_without_final_slash_or_with_wildcard_is_rejected(folder):
    with pytest.raises(ValueError, match="is not a prefix"):
        CliSettings(hasher_delete_prefixes=(folder,))


def test_etl_policy_allows_tables_and_seeds_only_if_enabled(tmp_path):
    change = {"s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload", "s3:ListMultipartUploadParts"}
    always = {
        "arn:aws:s3:::in": {"s3:ListBucket"},
        "arn:aws:s3:::in/*": {"s3:GetObject", "s3:GetObjectVersion"},
        "arn:aws:s3:::out": {"s3:ListBucket", "s3:ListBucketMultipartUploads"},
        "arn:aws:s3:::out/*": {"s3:GetObject", *change},
    }
    assert actions("etl") == always
    assert actions("etl", etl_seed=True) == {**always, "arn:aws:s3:::src-data/*": {"s3:PutObject"}}
    file = tmp_path / "datasets.toml"
    file.write_text('[users]\nbucket = "people"\nprefix = "in/"\n')
    seeded = actions("etl", etl_seed=True, etl_datasets=file)
    assert seeded == {**always, "arn:aws:s3:::people/in/*": {"s3:PutObject"}}


def test_missing_setting_disables_its_grant():
    assert policy(USERS["hasher"], Settings()) == policy(USERS["hasher"], CliSettings(hasher_delete_after=False))


def test_policy_of_parts_allows_only_writing_inputs():
    assert actions("parts") == {"arn:aws:s3:::in/*": {"s3:PutObject"}}


def test_user_names_have_a_length_that_minio_allows():
    assert all(3 <= len(user_name(service)) <= 20 for service in USERS)
