"""Each repair names the versions it is for, and has a test that fails once upstream mends it."""

import ast
from pathlib import Path

import pytest

import workers.celery_fixes

TESTS = Path(__file__).parents[2]
REPAIRS = [
    path
    for path in Path(workers.celery_fixes.__file__).parent.glob("*.py")
    if path.stem != "__init__"
]


@pytest.mark.parametrize("repair", REPAIRS, ids=lambda path: path.stem)
def test_a_repair_says_where_its_defect_is_and_a_test_shows_it_upstream(repair: Path) -> None:
    described = ast.get_docstring(ast.parse(repair.read_text())) or ""
    assert "Seen in " in described
    assert "https://github.com/" in described
    (test,) = TESTS.rglob(f"celery_fixes/test_{repair.stem}.py")
    assert "def test_upstream_" in test.read_text()
