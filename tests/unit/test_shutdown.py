"""The grace time that a worker's processes share."""

import os

from workers.shutdown import Grace

AN_HOUR = 3600


def test_the_end_of_the_grace_time_is_waited_for() -> None:
    grace = Grace()
    assert not grace.is_set()
    grace.begin(AN_HOUR)
    assert not grace.is_set()
    grace.begin(0)
    assert grace.is_set()


def test_who_is_told_twice_has_no_more_time() -> None:
    grace = Grace()
    grace.begin(0)
    grace.begin(AN_HOUR)
    assert grace.is_set()


def test_a_forked_child_sees_that_its_parent_lets_go() -> None:
    grace = Grace()
    told, tell = os.pipe()
    asked, ask = os.pipe()
    child = os.fork()
    if child == 0:
        os.read(asked, 1)
        os.write(tell, b"yes" if grace.is_set() else b"no!")
        os._exit(0)
    assert not grace.is_set()
    grace.begin(0)
    os.write(ask, b"?")
    assert os.read(told, 3) == b"yes"
    os.waitpid(child, 0)
    for descriptor in (told, tell, asked, ask):
        os.close(descriptor)
