"""`docs/registry-faults.md`: written from the faults, with the scores of the last run of `peers`.

The scores stand nowhere else, so a new fault or a new sentence keeps them:
`python -m tests.benchmarks.fault_table` generates the document again.
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

{count} known faults of registries and of the proxies before them: what the registry does, and what
towline promises. `tests/integration/pulls/test_misbehaving_registry.py` checks each promise with a
whole pull. These tables are generated from the values that the test uses
(`tests/fakes/misbehaviour/`).

Some promises always hold and are not repeated below: nothing wrong is left under `blobs/`,
credentials reach only the hosts that they are for, no request goes to a cloud's metadata service,
no secret appears in an error, and every pull ends.

To try another client:

```
python -m tests.fakes.registry --list
python -m tests.fakes.registry --fault body-cut --fault 429-seconds --port 5000
```

## The score

`ok`, or what went wrong first. A `°` after a promise means that the specifications leave it open
whether the pull completes. There another client is `ok` as well if it does the opposite correctly.

{summary}

| instead of `ok` | |
| --- | --- |
| gives up | the image can be pulled |
| accepts it | it must be refused |
| hangs | no end in {seconds} s, or {patient_seconds} s if the registry is silent or always busy |
| wrong bytes | it reports success, but the image is incomplete or wrong |
| … kB twice | it fetched that much more than necessary |
| retries too early | before the time that the registry asked for |
| leaks credentials | a host got an `Authorization` that is not for it |
| calls a wrong host | a host got a request that must not get any |
| calls a metadata service | the same, at the address where clouds hand out credentials |
| prints a secret | a password, a token or a signature |

`tests/benchmarks/README.md`, "Other clients", describes how the clients are run.
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
