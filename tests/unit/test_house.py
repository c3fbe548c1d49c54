"""The rules of the house that a test can check: direction of imports, lint, types."""

import ast
import builtins
import importlib
import io
import re
import subprocess
import sys
import tokenize
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.benchmarks import house

ROOT = Path(__file__).parents[2]

# A package may import the packages listed here, and itself.
MAY_IMPORT = {
    "shared.errors": set(),
    "shared.service_urls": {"shared.errors"},
    "shared.settings": {"shared.errors", "shared.service_urls"},
    "shared.oci": {"shared.errors"},
    "shared.registry": {"shared.errors", "shared.settings", "shared.oci"},
    "shared.volume": {"shared.errors", "shared.settings", "shared.oci"},
    "shared.catalog": {"shared.errors", "shared.settings", "shared.oci", "shared.service_urls"},
    "shared.rate_limiter": {"shared.errors", "shared.settings", "shared.oci"},
    "shared.download": {
        "shared.errors",
        "shared.settings",
        "shared.oci",
        "shared.registry",
        "shared.volume",
    },
    "shared.allocator": set(),
    "shared.pulls": {
        "shared.errors",
        "shared.settings",
        "shared.oci",
        "shared.registry",
        "shared.rate_limiter",
        "shared.volume",
        "shared.catalog",
        "shared.download",
        "shared.allocator",
    },
}

# The only places that may import a library.
HOME_OF = {
    "requests": ("shared/registry/",),
    "urllib3": ("shared/registry/",),
    "sqlalchemy": ("shared/catalog/",),
    "psycopg": ("shared/catalog/",),
    "alembic": ("shared/catalog/",),
    "celery": ("workers/",),
    "kombu": ("workers/",),
    "click": ("workers/cli/", "workers/embedded/foreground.py"),
    "rich": ("workers/cli/",),
    # An extra: imported only if diff_ids are verified.
    "isal": ("shared/volume/ingest/checksum.py", "shared/volume/diff_ids/decoders.py"),
    "backports": ("shared/volume/diff_ids/decoders.py",),
}


def modules() -> Iterator[tuple[str, ast.Module]]:
    for folder in ("shared", "workers"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            yield str(path.relative_to(ROOT)), ast.parse(path.read_text())


def imports(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def module_of(path: str) -> str:
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def room(name: str) -> str:
    return ".".join(name.split(".")[:2])


def test_imports_between_packages_run_one_way() -> None:
    wrong = []
    for path, tree in modules():
        home = room(module_of(path))
        if not path.startswith("shared/") or home == "shared":
            continue
        for name in imports(tree):
            if name.startswith("workers"):
                wrong.append(f"{path} imports {name}")
            if name.startswith("shared.") and room(name) not in MAY_IMPORT[home] | {home}:
                wrong.append(f"{path} imports {name}")
    assert wrong == []


def package(name: str) -> str:
    """The innermost package that a module is in, or that a dotted name of a module leads to."""
    while not (ROOT / name.replace(".", "/") / "__init__.py").exists():
        name = name.rpartition(".")[0]
    return name


def test_no_packages_import_each_other_in_a_circle() -> None:
    # Imports for type checkers count: they hide a circle, they do not remove it. A package may
    # import the packages in it, and they may import its modules.
    imported: dict[str, set[str]] = {}
    for path, tree in modules():
        home = str(Path(path).parent).replace("/", ".")
        others = {
            package(name) for name in imports(tree) if name.startswith(("shared.", "workers."))
        }
        related = {other for other in others if f"{home}.".startswith(f"{other}.")}
        inner = {other for other in others if other.startswith(f"{home}.")}
        imported.setdefault(home, set()).update(others - related - inner)

    def reached(start: str) -> set[str]:
        found: set[str] = set()
        todo = [start]
        while todo:
            new = imported.get(todo.pop(), set()) - found
            found |= new
            todo += new
        return found

    assert [name for name in imported if name in reached(name)] == []


def test_modules_named_in_texts_exist() -> None:
    # Programs are started, plug-ins found and late imports made by such names.
    wrong = []
    for path, tree in modules():
        for node in ast.walk(tree):
            late = isinstance(node, ast.Attribute) and isinstance(node.value, ast.Call)
            if late and node.value.args and isinstance(node.value.args[0], ast.Constant):
                named, member = node.value.args[0].value, node.attr
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                named, _, member = node.value.partition(":")
            else:
                continue
            if not re.fullmatch(r"(shared|workers)(\.\w+)+", str(named)):
                continue
            try:
                module = importlib.import_module(named)
            except ImportError:
                wrong.append(f"{path}: {named}")
            else:
                wrong += [f"{path}: {named}:{member}"] * bool(
                    member and not hasattr(module, member)
                )
    assert wrong == []


def test_every_package_has_a_complete_map_of_its_modules() -> None:
    wrong = []
    for path, tree in modules():
        folder = Path(path).parent
        if Path(path).name != "__init__.py" or "migrations" in folder.parts:
            continue
        described = ast.get_docstring(tree) or ""
        listed = set(re.findall(r"^ *(\w+) {2,}\S", described, re.MULTILINE))
        there = {
            one.stem
            for one in (ROOT / folder).iterdir()
            if one.suffix == ".py" or (one / "__init__.py").exists()
        } - {"__init__", "__main__"}
        wrong += [f"{folder}: {name} is missing" for name in sorted(there - listed)]
        wrong += [f"{folder}: {name} is gone" for name in sorted(listed - there)]
    assert wrong == []


def test_a_module_name_occurs_once_in_shared_and_once_in_workers() -> None:
    stems = [
        (Path(path).parts[0], Path(path).stem)
        for path, _ in modules()
        if Path(path).stem != "__init__" and not {"migrations", "cli"} & set(Path(path).parts)
    ]
    assert sorted(name for name, count in Counter(stems).items() if count > 1) == []


def test_prose_is_plain_english() -> None:
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    wrong = [
        f"{path}:{number}: {line.strip()}"
        for path in listed
        if path.endswith((".py", ".md", ".toml", ".yaml", ".example", ".conf", "Dockerfile", "run"))
        and path != str(Path(house.__file__).relative_to(ROOT))
        for number, line in enumerate((ROOT / path).read_text().splitlines(), 1)
        # An account of the system has that name.
        if house.REFUSED.search(line.replace('"nobody"', ""))
    ]
    assert wrong == []


# Not of a module of ours: a file of a layout, an attribute of Celery's app, a column.
NOT_OURS = {"index.json", "app.backend", "pull_layers.has_message"}


def named_in_prose() -> Iterator[tuple[str, str]]:
    """Each path, and each name in backquotes in its docstrings and comments."""
    for path, _ in modules():
        text = (ROOT / path).read_text()
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            is_docstring = token.type == tokenize.STRING and token.string.startswith('"""')
            if token.type == tokenize.COMMENT or is_docstring:
                for name in re.findall(r"`([A-Za-z_][\w.]*(?:\(\))?)`", token.string):
                    yield path, name


def defined(tree: ast.Module) -> set[str]:
    """Names at the top of a module, and those of its classes' members."""
    kinds = (ast.FunctionDef, ast.ClassDef)
    names = {node.name for node in ast.walk(tree) if isinstance(node, kinds)}
    stored = {
        node.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    }
    return names | stored


def test_prose_names_only_what_exists() -> None:
    of_module: dict[str, set[str]] = {}
    for path, tree in modules():
        of_module.setdefault(Path(path).stem, set()).update(defined(tree))
    everything = set().union(*of_module.values())
    files = {Path(path).name for path, _ in modules()}
    wrong = []
    for path, name in named_in_prose():
        whole, call = name.removesuffix("()"), name.endswith("()")
        module, _, member = whole.partition(".")
        if whole in NOT_OURS or whole in dir(builtins):
            continue
        if (
            (whole.endswith(".py") and whole not in files)
            or (member and module in of_module and member not in of_module[module] | {"py"})
            or (call and not member and module not in everything)
        ):
            wrong.append(f"{path}: `{name}`")
    assert wrong == []


def test_one_library_has_one_home() -> None:
    wrong = [
        f"{path} imports {name}"
        for path, tree in modules()
        for name in imports(tree)
        for library, homes in HOME_OF.items()
        if name.split(".")[0] == library and not path.startswith(homes)
    ]
    assert wrong == []


def test_imports_stand_at_the_top_of_their_module() -> None:
    wrong = [
        f"{path}:{node.lineno}"
        for path, tree in modules()
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef)
        for node in ast.walk(function)
        if isinstance(node, ast.Import | ast.ImportFrom)
    ]
    assert wrong == []


def test_no_module_is_named_without_a_noun() -> None:
    nameless = {"utils", "util", "helpers", "common", "constants", "misc"}
    assert [path for path, _ in modules() if Path(path).stem in nameless] == []


@pytest.mark.parametrize(
    "command",
    [
        ["ruff", "check"],
        ["ruff", "format", "--check"],
        ["mypy"],
    ],
    ids=" ".join,
)
def test_lint_and_types_find_nothing(command: list[str]) -> None:
    result = subprocess.run(
        [sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr
