"""The flag that a worker's processes share."""

import os

from workers.shutdown import Grace


def test_a_forked_child_sees_that_its_parent_lets_go() -> None:
    flag = Grace()
    told, tell = os.pipe()
    asked, ask = os.pipe()
    child = os.fork()
    if child == 0:
        os.read(asked, 1)
        os.write(tell, b"yes" if flag.is_set() else b"no!")
        os._exit(0)
    assert not flag.is_set()
    flag.begin(0)
    os.write(ask, b"?")
    assert os.read(told, 3) == b"yes"
    os.waitpid(child, 0)
    for descriptor in (told, tell, asked, ask):
        os.close(descriptor)
