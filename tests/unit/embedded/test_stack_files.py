"""Small files of the embedded stack: complete or missing, even after a full disk or a kill."""

import errno
import os
from pathlib import Path

import pytest

from shared.errors import CatalogUnavailable, InvalidArgument
from workers.embedded.joining import why_it_ended
from workers.embedded.stack_files import password_file, write_private
from workers.embedded.state import StackHome, State


def full(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_password_is_made_once_and_only_its_owner_can_read_it(tmp_path: Path) -> None:
    file = password_file(tmp_path / "password")
    made = file.read_text()
    assert len(made) == 32
    assert file.stat().st_mode & 0o777 == 0o600
    assert password_file(file).read_text() == made


def test_a_full_disk_leaves_no_password_and_the_next_start_makes_one(tmp_path: Path) -> None:
    file = tmp_path / "password"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(CatalogUnavailable, match="No space left on device"):
            password_file(file)
    assert list(tmp_path.iterdir()) == []
    assert len(password_file(file).read_text()) == 32


@pytest.mark.parametrize("left", ["", "short"])
def test_an_empty_or_short_password_is_replaced(tmp_path: Path, left: str) -> None:
    file = tmp_path / "password"
    file.write_text(left)
    assert len(password_file(file).read_text()) == 32


def test_the_old_file_stays_when_the_new_text_cannot_be_written(tmp_path: Path) -> None:
    file = tmp_path / "conf"
    write_private(file, "old")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(CatalogUnavailable):
            write_private(file, "new")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"conf": "old"}


def test_a_leftover_of_a_killed_write_does_not_prevent_the_next_write(tmp_path: Path) -> None:
    (tmp_path / "conf.new").write_text("ha")
    write_private(tmp_path / "conf", "whole")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"conf": "whole"}


@pytest.mark.parametrize("left", ["", "{", "[1]", '{"unknown": 1}'])
def test_a_state_file_that_cannot_be_parsed_is_an_empty_state(tmp_path: Path, left: str) -> None:
    home = StackHome.below(tmp_path)
    (home.directory / "state.json").write_text(left)
    assert home.read() == State()


@pytest.mark.parametrize("below", ["file", "file/deeper", "/proc/none"])
def test_the_error_for_a_home_that_cannot_be_created_names_its_variable(
    tmp_path: Path, below: str
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidArgument, match="TOWLINE_HOME cannot be used") as caught:
        StackHome.below(tmp_path / below)
    assert str(tmp_path / below) in str(caught.value)


def test_a_stack_has_ended_when_its_supervisor_reports_an_error_or_is_gone(tmp_path: Path) -> None:
    home = StackHome.below(tmp_path)
    with home.alone("supervisor.lock"):
        # While the supervisor holds its lock and reports no error, the stack runs.
        assert why_it_ended(home) is None
        home.write(State(error="Redis stopped."))
        assert why_it_ended(home) == "Redis stopped."
    home.forget()
    log = home.directory / "log" / "supervisor.log"
    assert f"see {log}" in str(why_it_ended(home))
