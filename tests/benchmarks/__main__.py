"""Measurements that a person runs, by name.

uv run python -m tests.benchmarks one_layer --rounds 5 --plots plots
uv run python -m tests.benchmarks one_layer --help
"""

import argparse
import ast
import sys
from importlib import import_module
from pathlib import Path


def main() -> int:
    """Run one measurement with the rest of the command line. Exit status 1 if it misses a goal."""
    found = measurements()
    width = max(map(len, found))
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks",
        description=__doc__,
        epilog="\n".join(f"{name:<{width}}  {line}" for name, line in found.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", choices=found, metavar="NAME", help="one of the measurements below")
    parser.add_argument(
        "options", nargs=argparse.REMAINDER, help="options of the measurement; --help lists them"
    )
    arguments = parser.parse_args()
    sys.argv = [f"python -m tests.benchmarks {arguments.name}", *arguments.options]
    return import_module(f"tests.benchmarks.{arguments.name}").main() or 0


def measurements() -> dict[str, str]:
    """Every module here with a function `main`, and the first line of its docstring."""
    found = {}
    for path in sorted(Path(__file__).parent.glob("*.py")):
        if path == Path(__file__):
            continue
        tree = ast.parse(path.read_text())
        if any(isinstance(node, ast.FunctionDef) and node.name == "main" for node in tree.body):
            found[path.stem] = (ast.get_docstring(tree) or "").partition("\n")[0]
    return found


if __name__ == "__main__":
    sys.exit(main())
