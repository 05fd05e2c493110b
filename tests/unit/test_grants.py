"""Which rights follow from what a database holds, and the statements that make them so."""

from shared.postgres import OWNER
from shared.provision import grants
from shared.provision.grants import PUBLIC, Catalog, DatabaseObject, Right
from shared.provision.rights import READER, RIGHTS, role_name

ROLES = frozenset({OWNER, READER, *map(role_name, RIGHTS)})


def catalog(*things: DatabaseObject, rights: frozenset[Right] = frozenset(), roles: frozenset[str] = ROLES) -> Catalog:
    return Catalog("penstock", "penstock", "", is_superuser=True, roles=roles, objects=things, rights=rights)


def table(schema: str, bare: str, owner: str = OWNER) -> DatabaseObject:
    return DatabaseObject("TABLE", f"{schema}.{bare}", schema, bare, owner)


def who(*things: DatabaseObject, privilege: str = "SELECT") -> set[str]:
    return {right.grantee for right in grants.desired(catalog(*things)) if right.privilege == privilege}


def test_tables_are_their_services_own_and_nobody_writes_what_migrations_note():
    assert (
        who(table("ingress", "tokens")) == who(table("ingress", "tokens"), privilege="DELETE") == {"penstock_ingress"}
    )
    assert who(table("hasher", "migrations")) == {"penstock_hasher"}
    assert who(table("hasher", "migrations"), privilege="UPDATE") == set()


def test_views_are_read_by_the_reader_and_by_whom_they_are_for():
    assert who(table("api", "digests")) == {READER, "penstock_ingress"}
    assert who(table("api", "sources")) == {READER}
    assert who(table("api", "people", owner="penstock_etl")) == {READER, "penstock_ingress"}
    assert who(table("api", "digests"), privilege="INSERT") == set()


def test_leased_work_is_shared_by_those_who_have_queues():
    assert who(table("work", "items")) == {"penstock_ingest", "penstock_hasher", "penstock_etl"}


def test_functions_that_lock_are_for_services_and_those_that_store_for_nobody():
    lock = DatabaseObject("ROUTINE", "pg_advisory_lock(bigint)", "pg_catalog", "pg_advisory_lock", "postgres")
    store = DatabaseObject("ROUTINE", "lo_create(oid)", "pg_catalog", "lo_create", "postgres")
    assert who(lock, privilege="EXECUTE") == {OWNER, *map(role_name, RIGHTS)}
    assert who(store, privilege="EXECUTE") == set()


def test_roles_that_do_not_exist_are_granted_nothing():
    found = grants.desired(catalog(table("api", "digests"), roles=frozenset({READER})))
    assert {right.grantee for right in found} == {READER}


def test_what_is_missing_is_granted_and_what_is_too_much_is_revoked():
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
    assert grants.summary(grants.excess(found), "revoked") == ["everybody: revoked 1 rights"]


def test_views_made_later_are_read_at_once():
    later = DatabaseObject("DEFAULTS", "penstock_etl", "api", "penstock_etl", "penstock_etl")
    assert who(later) == {READER, "penstock_ingress"}
    (statement, _) = sorted(grants.statement(right, grant=True) for right in grants.desired(catalog(later)))
    assert statement == (
        "ALTER DEFAULT PRIVILEGES FOR ROLE penstock_etl IN SCHEMA api GRANT SELECT ON TABLES TO penstock_ingress"
    )
