"""The rules of the house that a test can check: direction of imports, lint, types."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

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
    "shared.governor": {"shared.errors", "shared.settings", "shared.oci"},
    "shared.download": {
        "shared.errors",
        "shared.settings",
        "shared.oci",
        "shared.registry",
        "shared.volume",
    },
}

# The only places that may import a library.
HOME_OF = {
    "requests": ("shared/registry/",),
    "urllib3": ("shared/registry/",),
    # Imported only if there is a configuration of the Docker client.
    "docker": ("shared/registry/docker_config.py",),
    "sqlalchemy": ("shared/catalog/",),
    "psycopg": ("shared/catalog/",),
    "alembic": ("shared/catalog/",),
    "celery": ("workers/",),
    "kombu": ("workers/",),
    "click": ("workers/cli/", "workers/stack/foreground.py"),
    "rich": ("workers/cli/",),
    # An extra: imported only if diff_ids are verified.
    "isal": ("shared/volume/checksum.py", "shared/volume/decoding.py"),
    "backports": ("shared/volume/decoding.py",),
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


def room(name: str) -> str:
    return ".".join(name.split(".")[:2])


def test_imports_between_rooms_run_one_way() -> None:
    wrong = []
    for path, tree in modules():
        home = room(path.removesuffix(".py").replace("/", "."))
        for name in imports(tree):
            if name.startswith("workers") and path.startswith("shared/"):
                wrong.append(f"{path} imports {name}")
            allowed = MAY_IMPORT.get(home)
            if allowed is None or not name.startswith("shared."):
                continue
            if room(name) not in allowed | {home}:
                wrong.append(f"{path} imports {name}")
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


def test_the_use_cases_do_not_import_celery() -> None:
    wrong = [
        path
        for path, tree in modules()
        if path.startswith("workers/pulling/")
        for name in imports(tree)
        if name.split(".")[0] in {"celery", "kombu"} or name == "workers.app"
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
