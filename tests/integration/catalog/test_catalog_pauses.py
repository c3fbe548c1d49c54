"""What an operator has paused."""

import pytest
from sqlalchemy.exc import IntegrityError

from shared.catalog import pauses, pull_layers, pulls
from shared.catalog.database import Catalog, Connection
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


def test_who_waits_for_the_end_of_a_pause_goes_on_at_once(tx: Connection) -> None:
    fetching(tx)
    admitted(tx, "resolving")
    pauses.pause(tx, "fleet")
    pull_layers.wait(tx, "p", BASE, "paused", 60, "paused")
    for pull_id in ("p", "resolving"):
        pulls.wait(tx, pull_id, "paused", 60, "paused")
    pauses.resume(tx, "fleet")
    assert (layer(tx).waiting_for, layer(tx).not_before) == (None, None)
    for pull_id in ("p", "resolving"):
        assert (row(tx, pull_id).waiting_for, row(tx, pull_id).not_before) == (None, None)


def test_the_end_of_a_pause_ends_no_other_wait(tx: Connection) -> None:
    fetching(tx)
    pauses.pause(tx, "fleet")
    pull_layers.wait(tx, "p", BASE, "rate_limit", 60, "in a minute")
    pulls.say(tx, "p", "rate_limit", 60, "in a minute")
    before = (row(tx), layer(tx))
    pauses.resume(tx, "fleet")
    assert (row(tx), layer(tx)) == before
