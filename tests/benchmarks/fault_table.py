"""Writes `docs/registry-faults.md` from the faults, with the scores of the last run of `peers`.

The scores are stored only in the document, so it is read before it is written: a new fault or a new
sentence keeps the scores. To generate it again, run `python -m tests.benchmarks.fault_table`.
"""

import re
from collections.abc import Mapping
from pathlib import Path

from tests.benchmarks.verdicts import OK, PATIENT_SECONDS, SECONDS
from tests.fakes.misbehaviour import BY_NAME, GROUPS

DOCUMENT = Path(__file__).parents[2] / "docs" / "registry-faults.md"

# The verdict by client, with its version, and by fault.
Scores = Mapping[str, Mapping[str, str]]

_INTRODUCTION = """# Registries that misbehave

This page lists {count} ways in which a registry, or a proxy in front of it, is known to misbehave,
and what towline promises to do. `tests/integration/test_misbehaving_registry.py` checks each of
them with a whole pull. The tables are generated from the same values (`tests/fakes/misbehaviour/`),
and a test keeps both in step.

The following holds for every row: no wrong bytes are left under `blobs/`, no credentials reach a
host that they are not for, a cloud's metadata service is never asked, no error contains a secret,
and every pull ends.

To try another client:

```
python -m tests.fakes.registry --list
python -m tests.fakes.registry --fault body-cut --fault 429-seconds --port 5000
```

## The score

Each cell is `ok`, or what went wrong first. A `°` after a promise means that the specifications
leave it open, so another client is `ok` if it does the other thing well.

{summary}

| instead of `ok` | |
| --- | --- |
| gives up | it fails to pull an image that can be pulled |
| takes it | it accepts what must be refused |
| hangs | it takes more than {seconds} s, or {patient_seconds} s if the registry asks it to wait |
| wrong bytes | it reports that it pulled the image, and did not |
| … kB twice | it fetched that much more than necessary |
| does not wait | it asks again sooner than the registry allowed |
| credentials to a stranger | a host got an `Authorization` header that is not for it |
| asks a stranger, for metadata | a host was asked that must not be |
| prints a secret | its output contains a password, a token or a signature |

`tests/benchmarks/README.md`, "Other clients", describes how the clients are run.
"""


def render(scores: Scores) -> str:
    """The whole document."""
    sections = [_introduction(scores)]
    for group, faults in GROUPS.items():
        lines = [f"## {group}", "", *_head(["fault", "the registry", "towline", *scores])]
        for fault in faults:
            open_question = " °" if fault.promise.is_choice else ""
            cells = [f"`{fault.name}`", fault.does, f"{fault.promise}{open_question}"]
            lines.append(
                _row([*cells, *(verdicts.get(fault.name, "") for verdicts in scores.values())])
            )
        sections.append("\n".join(lines) + "\n")
    return "\n".join(sections)


def read_scores(document: str) -> dict[str, dict[str, str]]:
    """The scores of each client in the document."""
    scores: dict[str, dict[str, str]] = {}
    for line in document.splitlines():
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if cells[:1] == ["fault"]:
            scores = scores or {client: {} for client in cells[3:]}
        elif len(cells) > 3 and cells[0].strip("`") in BY_NAME:
            for verdicts, verdict in zip(scores.values(), cells[3:], strict=True):
                verdicts[cells[0].strip("`")] = verdict
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
        f"{sum(verdict == OK for verdict in verdicts.values())} of {len(verdicts)}"
        for verdicts in scores.values()
    ]
    return "\n".join([*lines, _row(["**ok**", *good])])


def _head(names: list[str]) -> list[str]:
    return [_row(names), _row(["---"] * len(names))]


def _row(cells: list[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


if __name__ == "__main__":
    DOCUMENT.write_text(render(read_scores(DOCUMENT.read_text())))
