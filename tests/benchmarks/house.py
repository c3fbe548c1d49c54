"""How much there is to read: figures of the source at two commits, side by side.

    uv run python -m tests.benchmarks house [BEFORE] [AFTER]

Static figures of `shared/` and `workers/`, migrations apart. `files behind a layer`, `functions
behind a layer`: what a static walk from the task `fetch_layer` reaches in the use cases and in the
catalog, through names that are imported or defined in the same module. `value types`: dataclasses
in those files that have a field `digest`, `layer` or `lease`. `raw SQL`: lines of text constants of
the catalog that hold a statement or a part of one. `prose`: docstrings and comments.
"""

import ast
import io
import re
import subprocess
import sys
import tempfile
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from tests.benchmarks.tables import options_of, print_table

# Words that the field does not use, or that hide who does what. `test_house.py` refuses them.
REFUSED = re.compile(
    r"\b(nobody|somebody|anybody|everybody|whoever|anew|meanwhile|lately|so many|so long"
    r"|in office)\b",
    re.IGNORECASE,
)
_SQL = re.compile(r"\b(SELECT|INSERT INTO|UPDATE|DELETE FROM|WITH|WHERE|EXISTS|JOIN|SET|FROM)\b")
_USE_CASES = ("workers/pulling/", "shared/pulls/")
_CATALOG = "shared/catalog/"
_START = ("workers/tasks.py", "fetch_layer")


def main() -> int:
    """Print the table."""
    parser = options_of(__doc__)
    parser.add_argument("before", nargs="?", default="46c55a8", help="default: %(default)s")
    parser.add_argument("after", nargs="?", default="HEAD", help="default: %(default)s")
    options = parser.parse_args()
    columns = []
    for commit in (options.before, options.after):
        with tempfile.TemporaryDirectory() as directory:
            _check_out(commit, Path(directory))
            columns.append(measure(Path(directory)))
    print_table(
        ["", options.before, options.after],
        [[name, *(f"{column[name]:,.4g}" for column in columns)] for name in columns[0]],
    )
    return 0


def measure(root: Path) -> dict[str, float]:
    """Every figure of one tree, by its name."""
    tree = {
        str(path.relative_to(root)): Source(path.read_text())
        for folder in ("shared", "workers")
        for path in sorted((root / folder).rglob("*.py"))
        if "migrations" not in path.parts
    }
    words = sum(len(source.prose.split()) for source in tree.values())
    refused = sum(len(REFUSED.findall(source.prose)) for source in tree.values())
    reached = _reach(tree)
    behind = {path for path, _ in reached if path.startswith((*_USE_CASES, _CATALOG))}
    folders = [str(Path(path).parent) for path in tree if not path.endswith("__init__.py")]
    return {
        "files behind a layer": len(behind),
        "functions behind a layer": sum(path in behind for path, _ in reached),
        "value types for a layer": sum(tree[path].value_types for path in behind),
        "lines of raw SQL": sum(
            source.sql_lines for path, source in tree.items() if path.startswith(_CATALOG)
        ),
        "modules in one folder, most": max(map(folders.count, folders)),
        "refused words per 1,000 of prose": 1000 * refused / words,
        "comment lines per 100 of code": 100
        * sum(source.comment_lines for source in tree.values())
        / sum(source.code_lines for source in tree.values()),
        "lines of code": sum(source.code_lines for source in tree.values()),
        "modules": len(folders),
    }


@dataclass(frozen=True)
class Source:
    """One module."""

    text: str

    @cached_property
    def tree(self) -> ast.Module:
        """Parsed."""
        return ast.parse(self.text)

    @cached_property
    def tokens(self) -> list[tokenize.TokenInfo]:
        """As Python reads it."""
        return list(tokenize.generate_tokens(io.StringIO(self.text).readline))

    @cached_property
    def docstrings(self) -> list[ast.Constant]:
        """Of the module, its classes and functions."""
        nodes = [self.tree, *ast.walk(self.tree)]
        kinds = (ast.Module, ast.ClassDef, ast.FunctionDef)
        return [
            node.body[0].value
            for node in dict.fromkeys(nodes)
            if isinstance(node, kinds)
            and node.body
            and isinstance(node.body[0], ast.Expr)
            and isinstance(node.body[0].value, ast.Constant)
            and isinstance(node.body[0].value.value, str)
        ]

    @property
    def prose(self) -> str:
        """Docstrings and comments."""
        comments = [one.string for one in self.tokens if one.type == tokenize.COMMENT]
        return " ".join([*(str(one.value) for one in self.docstrings), *comments])

    @property
    def comment_lines(self) -> int:
        """Lines that hold a comment."""
        return sum(token.type == tokenize.COMMENT for token in self.tokens)

    @property
    def code_lines(self) -> int:
        """Lines that are neither blank nor comments nor docstrings."""
        told = {
            line
            for one in self.docstrings
            for line in range(one.lineno, (one.end_lineno or one.lineno) + 1)
        }
        silent = {
            tokenize.COMMENT,
            tokenize.NL,
            tokenize.NEWLINE,
            tokenize.INDENT,
            tokenize.DEDENT,
            tokenize.ENDMARKER,
        }
        lines = {
            line
            for token in self.tokens
            if token.type not in silent
            for line in range(token.start[0], token.end[0] + 1)
        }
        return len(lines - told)

    @property
    def sql_lines(self) -> int:
        """Lines of texts that hold SQL."""
        docstrings = {id(one) for one in self.docstrings}
        lines: set[int] = set()
        for node in ast.walk(self.tree):
            is_text = isinstance(node, ast.Constant) and isinstance(node.value, str)
            if not (is_text or isinstance(node, ast.JoinedStr)) or id(node) in docstrings:
                continue
            assert isinstance(node, ast.Constant | ast.JoinedStr)
            if _SQL.search(ast.get_source_segment(self.text, node) or ""):
                lines.update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
        return len(lines)

    @property
    def value_types(self) -> int:
        """Dataclasses that are about a layer."""
        return sum(
            any(isinstance(one, ast.AnnAssign) and _is_of_a_layer(one) for one in node.body)
            for node in ast.walk(self.tree)
            if isinstance(node, ast.ClassDef)
            and "dataclass" in ast.dump(ast.Module(node.decorator_list, []))  # type: ignore[arg-type]
        )

    @cached_property
    def functions(self) -> dict[str, ast.AST]:
        """Functions and classes at the top of the module, by name."""
        kinds = (ast.FunctionDef, ast.ClassDef)
        return {node.name: node for node in self.tree.body if isinstance(node, kinds)}

    @cached_property
    def imports(self) -> dict[str, str]:
        """What each imported name stands for, dotted."""
        return {
            alias.asname or alias.name: f"{node.module}.{alias.name}"
            for node in ast.walk(self.tree)
            if isinstance(node, ast.ImportFrom)
            for alias in node.names
        }


def _is_of_a_layer(field: ast.AnnAssign) -> bool:
    return isinstance(field.target, ast.Name) and field.target.id in {"digest", "layer", "lease"}


def _reach(tree: dict[str, Source]) -> set[tuple[str, str]]:
    found = {_START}
    todo = [_START]
    while todo:
        path, name = todo.pop()
        for called in _used(tree, path, name):
            if called not in found:
                found.add(called)
                todo.append(called)
    return found


def _used(tree: dict[str, Source], path: str, name: str) -> Iterator[tuple[str, str]]:
    source = tree[path]
    for node in ast.walk(source.functions[name]):
        if isinstance(node, ast.Name):
            if node.id in source.functions:
                yield path, node.id
            elif node.id in source.imports:
                module, _, member = source.imports[node.id].rpartition(".")
                yield from _in(tree, module, member)
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            yield from _in(tree, source.imports.get(node.value.id, ""), node.attr)


def _in(tree: dict[str, Source], module: str, member: str) -> Iterator[tuple[str, str]]:
    path = module.replace(".", "/") + ".py"
    if path in tree and member in tree[path].functions:
        yield path, member


def _check_out(commit: str, directory: Path) -> None:
    root = Path(__file__).parents[2]
    archive = subprocess.run(
        ["git", "archive", commit, "shared", "workers"], cwd=root, check=True, capture_output=True
    )
    subprocess.run(["tar", "-x", "-C", directory], input=archive.stdout, check=True)


if __name__ == "__main__":
    sys.exit(main())
