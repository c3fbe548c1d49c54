"""The diagram of a pull's states is complete: `lifecycle.py`."""

import re
from pathlib import Path

from shared import catalog
from shared.catalog.pulls import lifecycle

# A line of the table below the diagram: a state, and the functions that lead to it.
ARRIVAL = re.compile(r"^    (\w+) +(\w+\.\w+(?:, \w+\.\w+)*)$", re.MULTILINE)
# A column `state` that a statement sets to a constant.
WRITE = re.compile(r"\bstate\"?[=:] ?constant\(\"(\w+)\"\)|\bSET state = '(\w+)'")


def modules() -> dict[str, str]:
    """The source of the catalog, by the name of the module."""
    paths = Path(next(iter(catalog.__path__))).rglob("*.py")
    return {path.stem: path.read_text() for path in paths if "migrations" not in path.parts}


def test_the_diagram_names_every_function_that_changes_the_state_of_a_pull() -> None:
    source = modules()
    named = [
        (state, *function.split("."))
        for state, functions in ARRIVAL.findall(lifecycle.__doc__ or "")
        for function in functions.split(", ")
    ]
    written = {
        (state or in_text, module)
        for module, text in source.items()
        for state, in_text in WRITE.findall(text)
    }
    assert written == {(state, module) for state, module, _ in named}
    assert [name for _, module, name in named if f"\ndef {name}(" not in source[module]] == []
