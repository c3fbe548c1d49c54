"""Challenges that follow the grammar are parsed, whatever their values contain."""

from hypothesis import given
from hypothesis import strategies as st

from shared.registry.auth.challenges import parse_challenges

WORDS = st.text("abcdefghijklmnopqrstuvwxyz-", min_size=1, max_size=12)
# A quoted string may contain commas, quotes and equals signs (RFC 9110 §5.6.4).
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
def test_written_challenges_are_parsed_back(
    challenges: list[tuple[str, dict[str, str]]],
) -> None:
    parsed = parse_challenges(written(challenges))
    assert [(challenge.scheme, challenge.parameters) for challenge in parsed] == challenges


def test_a_long_malformed_header_is_parsed_in_one_pass() -> None:
    for header in ('"' * 60_000, "a=" * 30_000, "a " * 30_000, 'Bearer a="' + "\\" * 60_000):
        assert isinstance(parse_challenges(header), list)


def test_the_first_of_two_realms_counts() -> None:
    (challenge,) = parse_challenges('Bearer realm="https://a",realm="https://b"')
    assert challenge.parameters == {"realm": "https://a"}
