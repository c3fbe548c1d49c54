"""Whether a node is sick, shared between its processes."""

import os
import threading

import pytest

from shared.pulls.steps.outcomes import NodeSick
from workers.health.node_health import NodeHealth


def test_a_well_node_refuses_nothing() -> None:
    sickness = NodeHealth()
    assert sickness.reason is None
    sickness.raise_if_sick()


def test_a_sick_node_refuses_with_its_reason_until_it_is_over() -> None:
    sickness = NodeHealth()
    sickness.report("No thread: raise the limit „ulimit -u“.")
    assert sickness.reason == "No thread: raise the limit „ulimit -u“."
    with pytest.raises(NodeSick, match="No thread"):
        sickness.raise_if_sick()
    sickness.clear()
    sickness.raise_if_sick()


def test_a_long_reason_is_cut() -> None:
    sickness = NodeHealth()
    sickness.report("é" * 5000)
    assert sickness.reason == "é" * 499


def test_a_childs_report_reaches_its_parent() -> None:
    sickness = NodeHealth()
    child = os.fork()
    if child == 0:
        sickness.report("The child cannot work.")
        os._exit(0)
    os.waitpid(child, 0)
    assert sickness.reason == "The child cannot work."


def test_only_a_child_that_reported_trouble_is_suspect_until_it_is_acquitted() -> None:
    sickness = NodeHealth()
    sickness.report("The main process looks after itself.")
    assert not sickness.is_suspect
    child = os.fork()
    if child == 0:
        before = sickness.is_suspect
        sickness.report("The child cannot work.")
        after_report = sickness.is_suspect
        sickness.clear_suspicion()
        os._exit((before, after_report, sickness.is_suspect) != (False, True, False))
    assert os.waitpid(child, 0)[1] == 0


def test_refuse_waits_until_the_worker_has_stopped_consuming() -> None:
    sickness = NodeHealth()
    sickness.report("sick")
    sickness.is_consuming = True
    refused = threading.Event()

    def refuse() -> None:
        with pytest.raises(NodeSick):
            sickness.raise_if_sick()
        assert not sickness.is_consuming
        refused.set()

    thread = threading.Thread(target=refuse)
    thread.start()
    sickness.is_consuming = False
    thread.join()
    assert refused.is_set()
