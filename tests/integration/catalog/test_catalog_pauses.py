"""What an operator has paused."""

import pytest
from sqlalchemy.exc import DBAPIError, IntegrityError

from shared.catalog import pauses, pull_layers, pulls
from shared.catalog.database import Catalog, Connection
from tests.integration.catalog.given import rows
from tests.integration.catalog.given_pulls import (
    BASE,
    HOST,
    OTHER_HOST,
    admitted,
    fetching,
    layer,
    record,
    row,
)

pytestmark = pytest.mark.integration


def test_a_pause_is_made_once_and_ended_once(tx: Connection) -> None:
    assert pauses.pause(tx, "registry", HOST)
    assert not pauses.pause(tx, "registry", HOST)
    assert [(one.scope, one.name) for one in pauses.listing(tx)] == [("registry", HOST)]
    assert pauses.resume(tx, "registry", HOST)
    assert not pauses.resume(tx, "registry", HOST)
    assert pauses.listing(tx) == []


def test_pauses_are_listed_in_the_order_they_were_made(catalog: Catalog) -> None:
    made = [("requester", "ci"), ("fleet", ""), ("registry", HOST)]
    for scope, name in made:
        with catalog.begin() as tx:
            pauses.pause(tx, scope, name)
    with catalog.begin() as tx:
        assert [(one.scope, one.name) for one in pauses.listing(tx)] == made


def test_nothing_else_can_be_paused(catalog: Catalog) -> None:
    with pytest.raises(IntegrityError), catalog.begin() as tx:
        pauses.pause(tx, "image", "alpine")


def holding(tx: Connection, pull_id: str) -> tuple[str, str] | None:
    found = pauses.of_pull(tx, pull_id)
    return (found.scope, found.name) if found else None


def test_a_pause_holds_the_pulls_of_its_scope(tx: Connection) -> None:
    record(tx, "p", requested_by="ci")
    record(tx, "elsewhere", registry=OTHER_HOST)
    for scope, name in (("requester", "ci"), ("registry", HOST), ("fleet", "")):
        assert holding(tx, "elsewhere") is None
        pauses.pause(tx, scope, name)
        # Of several, the widest.
        assert holding(tx, "p") == (scope, name)
    assert holding(tx, "elsewhere") == ("fleet", "")
    assert holding(tx, "no such pull") is None


def test_pulls_of_nobody_can_be_paused(tx: Connection) -> None:
    record(tx, "of nobody")
    record(tx, "of somebody", requested_by="ci")
    pauses.pause(tx, "requester", "")
    assert holding(tx, "of nobody") == ("requester", "")
    assert holding(tx, "of somebody") is None


@pytest.mark.parametrize(
    ("scope", "name", "words"),
    [
        ("fleet", "", ("the fleet is paused", "`towline resume`")),
        ("registry", HOST, (f"registry {HOST} is paused", f"`towline resume --registry {HOST}`")),
        ("requester", "ci", ("requester ci is paused", "`towline resume --requester ci`")),
    ],
)
def test_a_pause_says_what_is_paused_and_how_it_ends(
    tx: Connection, scope: str, name: str, words: tuple[str, str]
) -> None:
    pauses.pause(tx, scope, name)
    (pause,) = pauses.listing(tx)
    assert all(word in pause.sentence for word in words)


def paused_pulls(catalog: Catalog) -> None:
    """Two under way and one in the line, all told that the fleet is paused."""
    with catalog.begin() as tx:
        fetching(tx)
        admitted(tx, "resolving")
        record(tx, "in line")
        pauses.pause(tx, "fleet")
        pull_layers.wait(tx, "p", BASE, "paused", 60, "paused")
        for pull_id in ("p", "resolving", "in line"):
            pulls.wait(tx, pull_id, "paused", 60, "paused")


def resume(catalog: Catalog) -> None:
    with catalog.begin() as tx:
        assert pauses.resume(tx, "fleet")
    pauses.go_on(catalog)


def waiting(catalog: Catalog) -> set[str]:
    """The pulls that are told to wait, or one of whose layers is."""
    with catalog.begin() as tx:
        found = rows(
            tx,
            "SELECT id FROM pulls WHERE waiting_for IS NOT NULL OR not_before > now() "
            "UNION SELECT pull_id FROM pull_layers "
            "WHERE waiting_for IS NOT NULL OR not_before > now()",
        )
    return {pull_id for (pull_id,) in found}


def test_pulls_that_wait_for_the_end_of_a_pause_go_on_at_once(catalog: Catalog) -> None:
    paused_pulls(catalog)
    assert waiting(catalog) == {"p", "resolving", "in line"}
    resume(catalog)
    assert waiting(catalog) == set()


def test_the_end_of_a_pause_ends_no_other_wait(catalog: Catalog) -> None:
    with catalog.begin() as tx:
        fetching(tx)
        pauses.pause(tx, "fleet")
        pull_layers.wait(tx, "p", BASE, "rate_limit", 60, "in a minute")
        pulls.say(tx, "p", "rate_limit", 60, "in a minute")
        before = (row(tx), layer(tx))
    resume(catalog)
    with catalog.begin() as tx:
        assert (row(tx), layer(tx)) == before


def test_a_resume_that_fails_half_way_keeps_what_it_has_done(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    paused_pulls(catalog)
    monkeypatch.setattr(pauses, "_AT_ONCE", 1)
    with catalog.begin() as tx:
        tx.exec_driver_sql(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN RAISE EXCEPTION 'no'; END $$"
        )
        tx.exec_driver_sql(
            "CREATE TRIGGER refusing BEFORE UPDATE ON pulls FOR EACH ROW "
            "WHEN (OLD.id = 'resolving') EXECUTE FUNCTION refuse()"
        )
    with pytest.raises(DBAPIError):
        resume(catalog)
    assert waiting(catalog) == {"resolving", "in line"}
    with catalog.begin() as tx:
        assert pauses.listing(tx) == []


def test_a_resume_waits_for_no_pull_that_is_being_worked_on(catalog: Catalog) -> None:
    paused_pulls(catalog)
    with catalog.begin() as other:
        assert pulls.lock(other, "p")
        resume(catalog)
    assert waiting(catalog) == {"p"}
