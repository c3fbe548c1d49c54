"""A pull may be named by the beginning of its id, if only one pull has such an id."""

import pytest

from shared.catalog.pulls import lifecycle, listings
from shared.errors import InvalidArgument
from tests.builders.facts import pull
from workers.cli.prefixes import begins_uuid, is_uuid, short_ids, whole_id

FIRST = "6f1c2b3a-9d8e-4f70-8a1b-2c3d4e5f6071"
SECOND = "6f1c2b3a-9d8e-4f70-8a1b-2c3d4e5f9999"
OTHER = "0a0b0c0d-9d8e-4f70-8a1b-2c3d4e5f6071"


class Recorded:
    """A catalog of pulls with these ids."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *ids: str) -> None:
        rows = {pull_id: pull(id=pull_id) for pull_id in ids}
        self.ranges_read = 0

        def beginning_with(_: object, prefix: str, limit: int) -> list[str]:
            self.ranges_read += 1
            return [pull_id for pull_id in rows if pull_id.startswith(prefix)][:limit]

        monkeypatch.setattr(lifecycle, "get", lambda _, pull_id: rows.get(pull_id))
        monkeypatch.setattr(listings, "beginning_with", beginning_with)

    def begin(self) -> "Recorded":
        return self

    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: object) -> None:
        return None


def found(catalog: Recorded, text: str) -> str:
    return whole_id(catalog, text)  # type: ignore[arg-type]


def test_a_unique_prefix_of_8_characters_names_a_pull(monkeypatch: pytest.MonkeyPatch) -> None:
    catalog = Recorded(monkeypatch, FIRST, OTHER)
    assert found(catalog, "6f1c2b3a") == FIRST
    assert found(catalog, FIRST[:20]) == FIRST


def test_a_shorter_or_unknown_prefix_names_no_pull(monkeypatch: pytest.MonkeyPatch) -> None:
    catalog = Recorded(monkeypatch, FIRST)
    assert found(catalog, "6f1c2b3") == "6f1c2b3"
    assert found(catalog, "ffffffff") == "ffffffff"


def test_an_ambiguous_prefix_is_refused_with_the_candidates(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    catalog = Recorded(monkeypatch, FIRST, OTHER, SECOND)
    with pytest.raises(InvalidArgument) as refused:
        found(catalog, "6f1c2b3a")
    assert str(refused.value) == (
        f"6f1c2b3a is the beginning of several pull ids: {FIRST}, {SECOND}. Write more of the id."
    )


def test_of_many_candidates_only_five_are_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    catalog = Recorded(monkeypatch, *(f"nightly-{number}" for number in range(9)))
    with pytest.raises(InvalidArgument, match=r"nightly-4, and more\. Write more of the id\.$"):
        found(catalog, "nightly-")


def test_a_whole_id_is_never_a_prefix(monkeypatch: pytest.MonkeyPatch) -> None:
    catalog = Recorded(monkeypatch, "build-1001", "build-10010")
    assert found(catalog, "build-1001") == "build-1001"
    # This UUID may be recorded a moment later. No other pull can be meant.
    assert found(catalog, OTHER) == OTHER
    assert catalog.ranges_read == 0


def test_a_uuid_and_its_beginnings_are_told_from_other_ids() -> None:
    assert [
        begins_uuid(text) for text in (FIRST, FIRST[:8], FIRST[:12], "6f1c2b3", "build-1001")
    ] == [
        True,
        True,
        True,
        False,
        False,
    ]
    assert (is_uuid(FIRST), is_uuid(FIRST[:35])) == (True, False)


def test_short_ids_tell_the_shown_pulls_apart() -> None:
    assert short_ids([FIRST, OTHER]) == ["6f1c2b3a", "0a0b0c0d"]
    assert short_ids([FIRST, OTHER, SECOND]) == [FIRST[:33], "0a0b0c0d", SECOND[:33]]
    assert short_ids(["build-1", "build-10", "p"]) == ["build-1", "build-10", "p"]
