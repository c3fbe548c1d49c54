"""What an operator has paused, and what goes on after the pause ends."""

import pytest
from sqlalchemy.exc import DBAPIError, IntegrityError

from shared.catalog.admission import pauses
from shared.catalog.database.catalog import Catalog, Connection
from shared.catalog.layers import pull_layers
from shared.catalog.pulls import lifecycle
from tests.builders.images import rows
from tests.builders.pulls import BASE, HOST, OTHER_HOST, admitted, fetching, layer, record, row


def test_a_pause_is_made_once_and_ended_once(tx: Connection) -> None:
    assert pauses.pause(tx, "registry", HOST)
    assert not pauses.pause(tx, "registry", HOST)
    assert [(pause.scope, pause.name) for pause in pauses.listing(tx)] == [("registry", HOST)]
    assert pauses.resume(tx, "registry", HOST)
    assert not pauses.resume(tx, "registry", HOST)
    assert pauses.listing(tx) == []


def test_pauses_are_listed_in_the_order_they_were_made(catalog: Catalog) -> None:
    made = [("requester", "ci"), ("fleet", ""), ("registry", HOST)]
    for scope, name in made:
        with catalog.begin() as tx:
            pauses.pause(tx, scope, name)
    with catalog.begin() as tx:
        assert [(pause.scope, pause.name) for pause in pauses.listing(tx)] == made


def test_no_other_scope_can_be_paused(catalog: Catalog) -> None:
    with pytest.raises(IntegrityError), catalog.begin() as tx:
        pauses.pause(tx, "image", "alpine")


def applying(tx: Connection, pull_id: str) -> tuple[str, str] | None:
    found = pauses.of_pull(tx, pull_id)
    return (found.scope, found.name) if found else None


def test_a_pause_applies_to_the_pulls_of_its_scope(tx: Connection) -> None:
    record(tx, "p", requested_by="ci")
    record(tx, "elsewhere", registry=OTHER_HOST)
    for scope, name in (("requester", "ci"), ("registry", HOST), ("fleet", "")):
        assert applying(tx, "elsewhere") is None
        pauses.pause(tx, scope, name)
        # Of several pauses, the one with the widest scope.
        assert applying(tx, "p") == (scope, name)
    assert applying(tx, "elsewhere") == ("fleet", "")
    assert applying(tx, "no such pull") is None


def test_pulls_without_a_requester_can_be_paused(tx: Connection) -> None:
    record(tx, "without requester")
    record(tx, "of ci", requested_by="ci")
    pauses.pause(tx, "requester", "")
    assert applying(tx, "without requester") == ("requester", "")
    assert applying(tx, "of ci") is None


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
    """Two pulls under way and one that waits for its turn, all with the reason `paused`."""
    with catalog.begin() as tx:
        fetching(tx)
        admitted(tx, "resolving")
        record(tx, "in line")
        pauses.pause(tx, "fleet")
        pull_layers.wait(tx, "p", BASE, "paused", 60, "paused")
        for pull_id in ("p", "resolving", "in line"):
            lifecycle.wait(tx, pull_id, "paused", 60, "paused")


def resume(catalog: Catalog) -> None:
    with catalog.begin() as tx:
        assert pauses.resume(tx, "fleet")
    pauses.wake(catalog)


def waiting(catalog: Catalog) -> set[str]:
    """The pulls that wait, or have a layer that waits."""
    with catalog.begin() as tx:
        found = rows(
            tx,
            "SELECT id FROM pulls WHERE waiting_for IS NOT NULL OR not_before > now() "
            "UNION SELECT pull_id FROM pull_layers "
            "WHERE waiting_for IS NOT NULL OR not_before > now()",
        )
    return {pull_id for (pull_id,) in found}


def test_pulls_that_wait_for_the_end_of_a_pause_are_due_at_once(catalog: Catalog) -> None:
    paused_pulls(catalog)
    assert waiting(catalog) == {"p", "resolving", "in line"}
    resume(catalog)
    assert waiting(catalog) == set()


def test_the_end_of_a_pause_does_not_end_waits_for_other_reasons(catalog: Catalog) -> None:
    with catalog.begin() as tx:
        fetching(tx)
        pauses.pause(tx, "fleet")
        pull_layers.wait(tx, "p", BASE, "rate_limit", 60, "in a minute")
        lifecycle.show_waiting(tx, "p", "rate_limit", 60, "in a minute")
        before = (row(tx), layer(tx))
    resume(catalog)
    with catalog.begin() as tx:
        assert (row(tx), layer(tx)) == before


def test_a_resume_that_fails_halfway_keeps_the_batches_that_succeeded(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    paused_pulls(catalog)
    monkeypatch.setattr(pauses, "_BATCH", 1)
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


def test_a_resume_skips_pulls_that_are_locked(catalog: Catalog) -> None:
    paused_pulls(catalog)
    with catalog.begin() as other:
        assert lifecycle.lock(other, "p")
        resume(catalog)
    assert waiting(catalog) == {"p"}
