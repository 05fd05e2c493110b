"""Desired database rights, and the statements that grant or revoke the difference."""

from services.catalogue import manifests
from shared.postgres import OWNER
from shared.provision import grants
from shared.provision.grants import PUBLIC, Catalog, DatabaseObject, Right
from shared.provision.rights import READER, role_name

SERVICES = manifests().with_role
ROLES = frozenset({OWNER, READER, *map(role_name, SERVICES)})


def catalog(*objects: DatabaseObject, rights: frozenset[Right] = frozenset(), roles: frozenset[str] = ROLES) -> Catalog:
    return Catalog(
        "penstock",
        "penstock",
        "",
        is_superuser=True,
        roles=roles,
        objects=objects,
        rights=rights,
        manifests=SERVICES,
    )


def table(schema: str, bare: str, owner: str = OWNER) -> DatabaseObject:
    return DatabaseObject("TABLE", f"{schema}.{bare}", schema, bare, owner)


def who(*objects: DatabaseObject, privilege: str = "SELECT") -> set[str]:
    return {right.grantee for right in grants.desired(catalog(*objects)) if right.privilege == privilege}


def test_tables_are_granted_to_their_service_and_migrations_are_read_only():
    assert (
        who(table("ingress", "tokens")) == who(table("ingress", "tokens"), privilege="DELETE") == {"penstock_ingress"}
    )
    assert who(table("hasher", "migrations")) == {"penstock_hasher"}
    assert who(table("hasher", "migrations"), privilege="UPDATE") == set()


def test_views_are_granted_to_the_reader_and_to_services_that_read_them():
    assert who(table("api", "digests")) == {READER, "penstock_ingress"}
    assert who(table("api", "sources")) == {READER}
    assert who(table("api", "people", owner="penstock_etl")) == {READER, "penstock_ingress"}
    assert who(table("api", "digests"), privilege="INSERT") == set()


def test_work_items_are_granted_to_services_with_queues():
    assert who(table("work", "items")) == {"penstock_ingest", "penstock_hasher", "penstock_etl"}


def test_lock_functions_are_granted_to_services_and_large_objects_to_no_role():
    lock = DatabaseObject("ROUTINE", "pg_advisory_lock(bigint)", "pg_catalog", "pg_advisory_lock", "postgres")
    store = DatabaseObject("ROUTINE", "lo_create(oid)", "pg_catalog", "lo_create", "postgres")
    assert who(lock, privilege="EXECUTE") == {OWNER, *map(role_name, SERVICES)}
    assert who(store, privilege="EXECUTE") == set()


def test_missing_roles_get_no_rights():
    found = grants.desired(catalog(table("api", "digests"), roles=frozenset({READER})))
    assert {right.grantee for right in found} == {READER}


def test_missing_rights_are_granted_and_excess_rights_revoked():
    tokens = table("ingress", "tokens")
    own = {Right("TABLE", "ingress.tokens", "penstock_ingress", word) for word in ("SELECT", "INSERT", "UPDATE")}
    stolen = Right("TABLE", "ingress.tokens", PUBLIC, "SELECT")
    found = catalog(tokens, rights=frozenset({*own, stolen}))
    assert [grants.statement(right, grant=True) for right in grants.missing(found)] == [
        "GRANT DELETE ON TABLE ingress.tokens TO penstock_ingress"
    ]
    assert [grants.statement(right, grant=False) for right in grants.excess(found)] == [
        "REVOKE SELECT ON TABLE ingress.tokens FROM PUBLIC"
    ]
    assert grants.summary(grants.excess(found), "revoked") == ["PUBLIC: revoked 1 rights"]


def test_default_privileges_cover_later_views():
    later = DatabaseObject("DEFAULTS", "penstock_etl", "api", "penstock_etl", "penstock_etl")
    assert who(later) == {READER, "penstock_ingress"}
    (statement, _) = sorted(grants.statement(right, grant=True) for right in grants.desired(catalog(later)))
    assert statement == (
        "ALTER DEFAULT PRIVILEGES FOR ROLE penstock_etl IN SCHEMA api GRANT SELECT ON TABLES TO penstock_ingress"
    )
