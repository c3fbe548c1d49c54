"""Challenges that are written by the grammar are read back, whatever they hold."""

from hypothesis import given
from hypothesis import strategies as st

from shared.registry.auth import parse_challenges

WORDS = st.text("abcdefghijklmnopqrstuvwxyz-", min_size=1, max_size=12)
# What a quoted string may hold (RFC 9110 §5.6.4): commas, quotes, equals signs and all.
VALUES = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=30)
CHALLENGES = st.lists(
    st.tuples(WORDS, st.dictionaries(WORDS, VALUES, max_size=3)), min_size=1, max_size=4
)


def written(challenges: list[tuple[str, dict[str, str]]]) -> str:
    texts = []
    for scheme, parameters in challenges:
        quoted = [
            f'{key}="{value.replace(chr(92), chr(92) * 2).replace(chr(34), chr(92) + chr(34))}"'
            for key, value in parameters.items()
        ]
        texts.append(f"{scheme.title()} {', '.join(quoted)}".strip())
    return ", ".join(texts)


@given(CHALLENGES)
def test_challenges_that_were_written_are_read_back(
    challenges: list[tuple[str, dict[str, str]]],
) -> None:
    read = parse_challenges(written(challenges))
    assert [(one.scheme, one.parameters) for one in read] == challenges


def test_a_long_header_of_junk_is_read_in_one_pass() -> None:
    for junk in ('"' * 60_000, "a=" * 30_000, "a " * 30_000, 'Bearer a="' + "\\" * 60_000):
        assert isinstance(parse_challenges(junk), list)


def test_the_first_of_two_realms_counts() -> None:
    (one,) = parse_challenges('Bearer realm="https://a",realm="https://b"')
    assert one.parameters == {"realm": "https://a"}
