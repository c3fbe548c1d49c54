"""`docs/registry-faults.md`: written from the faults, with the scores of the last run of `peers`.

The scores stand nowhere else, so a new fault or a new sentence keeps them:
`python -m tests.benchmarks.fault_table` writes the document anew.
"""

import re
from collections.abc import Mapping
from pathlib import Path

from tests.benchmarks.verdicts import OK, PATIENT_SECONDS, SECONDS
from tests.fakes.misbehaviour import BY_NAME, GROUPS

DOCUMENT = Path(__file__).parents[2] / "docs" / "registry-faults.md"

# By client, with its version, and fault.
Scores = Mapping[str, Mapping[str, str]]

_INTRODUCTION = """# Registries that misbehave

{count} ways in which a registry, or a proxy before it, is known to misbehave; what it does then,
and what towline promises. `tests/integration/test_misbehaving_registry.py` holds it to each of
them with a whole pull. The tables are written from the same values (`tests/fakes/misbehaviour/`),
and a test keeps both in step.

Always, and so not said below: nothing wrong is left under `blobs/`, no credentials reach a host
that they are not for, a cloud's metadata service is never asked, no secret stands in an error, and
every pull ends.

To try another client:

```
python -m tests.fakes.registry --list
python -m tests.fakes.registry --fault body-cut --fault 429-seconds --port 5000
```

## The score

`ok`, or what went wrong first. A `°` behind a promise: the specifications leave it open, so
another client is `ok` if it does the other thing well.

{summary}

| instead of `ok` | |
| --- | --- |
| gives up | on an image that can be pulled |
| takes it | although it must be refused |
| hangs | beyond {seconds} s, or {patient_seconds} s where the registry asks for patience |
| wrong bytes | it says that it pulled the image, and did not |
| … kB twice | it fetched so much more than it had to |
| does not wait | as long as it was asked to |
| credentials to a stranger | a host got an `Authorization` that it is not for |
| asks a stranger, for metadata | a host was asked that must not be |
| prints a secret | a password, a token or a signature |

How the clients are run stands in `tests/benchmarks/README.md`, "Other clients".
"""


def render(scores: Scores) -> str:
    """The whole document."""
    sections = [_introduction(scores)]
    for group, faults in GROUPS.items():
        lines = [f"## {group}", "", *_head(["fault", "the registry", "towline", *scores])]
        for fault in faults:
            open_question = " °" if fault.promise.is_choice else ""
            said = [f"`{fault.name}`", fault.does, f"{fault.promise}{open_question}"]
            lines.append(_row([*said, *(told.get(fault.name, "") for told in scores.values())]))
        sections.append("\n".join(lines) + "\n")
    return "\n".join(sections)


def read_scores(document: str) -> dict[str, dict[str, str]]:
    """What the document says of each client."""
    scores: dict[str, dict[str, str]] = {}
    for line in document.splitlines():
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if cells[:1] == ["fault"]:
            scores = scores or {client: {} for client in cells[3:]}
        elif len(cells) > 3 and cells[0].strip("`") in BY_NAME:
            for told, verdict in zip(scores.values(), cells[3:], strict=True):
                told[cells[0].strip("`")] = verdict
    return scores


def _introduction(scores: Scores) -> str:
    return _INTRODUCTION.format(
        count=len(BY_NAME),
        summary=_summary(scores),
        seconds=SECONDS,
        patient_seconds=PATIENT_SECONDS,
    )


def _summary(scores: Scores) -> str:
    lines = _head(["", *scores])
    good = [
        f"{sum(verdict == OK for verdict in told.values())} of {len(told)}"
        for told in scores.values()
    ]
    return "\n".join([*lines, _row(["**ok**", *good])])


def _head(names: list[str]) -> list[str]:
    return [_row(names), _row(["---"] * len(names))]


def _row(cells: list[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


if __name__ == "__main__":
    DOCUMENT.write_text(render(read_scores(DOCUMENT.read_text())))
