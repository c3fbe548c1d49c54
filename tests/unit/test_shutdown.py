"""The grace time that a worker's processes share."""

import os

from workers.process.grace_time import GraceTime

AN_HOUR = 3600


def test_downloads_go_on_until_the_grace_time_is_over() -> None:
    grace = GraceTime()
    assert not grace.is_over()
    grace.begin(AN_HOUR)
    assert not grace.is_over()
    grace.begin(0)
    assert grace.is_over()


def test_a_second_signal_does_not_extend_the_grace_time() -> None:
    grace = GraceTime()
    grace.begin(0)
    grace.begin(AN_HOUR)
    assert grace.is_over()


def test_a_forked_child_shares_the_grace_time_of_its_parent() -> None:
    grace = GraceTime()
    told, tell = os.pipe()
    asked, ask = os.pipe()
    child = os.fork()
    if child == 0:
        os.read(asked, 1)
        os.write(tell, b"yes" if grace.is_over() else b"no!")
        os._exit(0)
    assert not grace.is_over()
    grace.begin(0)
    os.write(ask, b"?")
    assert os.read(told, 3) == b"yes"
    os.waitpid(child, 0)
    for descriptor in (told, tell, asked, ask):
        os.close(descriptor)
