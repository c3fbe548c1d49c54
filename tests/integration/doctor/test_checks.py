"""`towline doctor` on a real PostgreSQL and Redis: it finds and names everything that is wrong."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
import redis
from celery import Celery
from pydantic import SecretStr

from shared.catalog.admission import pauses
from shared.catalog.database.catalog import Catalog, Connection
from shared.catalog.fleet import node_rows, step_leases
from shared.catalog.fleet.node_rows import Node
from shared.catalog.pulls import finish
from shared.rate_limiter import Limits, RateLimiter, connect
from shared.settings import Settings
from tests.builders.leases import taken
from tests.builders.pulls import admitted, change, fetching, record, row
from tests.support.secrecy import secret
from tests.support.services import with_driver
from workers.celery_apps import make_app
from workers.doctor.check_result import CheckResult, Finding
from workers.doctor.checked_fleet import CheckedFleet
from workers.doctor.checklist import run_checks
from workers.doctor.checks import (
    database_checks,
    fleet_checks,
    pull_checks,
    redis_checks,
    registry_checks,
)
from workers.messages.client import send
from workers.preparing import prepare_fleet

pytestmark = pytest.mark.integration

SECRET = secret("login")
UNREACHABLE = SecretStr(f"redis://:{SECRET}@127.0.0.1:1/0")
LONG_AGO = "now() - interval '5 minutes'"
# A reason to wait that has expired and was not renewed.
RAN_OUT = (
    f"created_at = {LONG_AGO}, waiting_for = jsonb_build_object('cause', 'turn', 'detail', 'x', "
    f"'until', {LONG_AGO})"
)


@pytest.fixture
def settings(redis_url: str, migrated_url: str, volume_path: Path) -> Settings:
    prepare_fleet(with_driver(migrated_url), volume_path)
    return Settings.read(
        broker_url=redis_url,
        database_url=migrated_url,
        volume=volume_path,
        minimum_free_bytes=0,
    )


@pytest.fixture
def app(settings: Settings) -> Iterator[Celery]:
    app = make_app(settings)
    yield app
    app.close()


@pytest.fixture
def checked(settings: Settings, catalog: Catalog, app: Celery) -> CheckedFleet:
    return CheckedFleet(settings, catalog, app)


@pytest.fixture(autouse=True)
def in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """No second look and no slow worker: nothing changes hands in these tests."""
    monkeypatch.setattr(pull_checks, "_SECOND_LOOK_SECONDS", 0.0)
    monkeypatch.setattr(fleet_checks, "_ANSWER_SECONDS", (0.2,))


@pytest.fixture
def tx(catalog: Catalog) -> Iterator[Connection]:
    with catalog.begin() as tx:
        yield tx


def attended(checked: CheckedFleet) -> Finding:
    return pull_checks.attended(checked)


def fresh(checked: CheckedFleet) -> CheckedFleet:
    """The same fleet, looked at again."""
    return replace(checked)


def by_check(checked: CheckedFleet) -> dict[str, CheckResult]:
    return {finding.check: finding for finding in run_checks(checked)}


def test_sick_and_silent_nodes_are_problems_and_the_others_are_counted(
    checked: CheckedFleet, tx: Connection
) -> None:
    sick = "The volume cannot make a file (Read-only file system)."
    for name, reason in (("a", None), ("b", sick), ("c", None), ("d", None)):
        node_rows.write(tx, Node(name, reason, "1.2.3", 8, None, None))
    tx.exec_driver_sql(f"UPDATE nodes SET seen_at = {LONG_AGO} WHERE name = 'd'")
    tx.commit()
    found = [finding for finding in run_checks(checked) if finding.check == "nodes"]
    assert [finding.level for finding in found] == ["problem", "problem", "ok"]
    assert "b is sick: " + sick in found[0].sentence
    assert "d was last seen at" in found[1].sentence
    assert (found[2].sentence, found[2].details) == ("2 nodes are well.", ("a", "c"))


def test_a_read_only_database_is_a_problem(checked: CheckedFleet, catalog: Catalog) -> None:
    try:
        with catalog.begin() as tx:
            _make_read_only(tx, "on")
        catalog.close()
        finding = database_checks.server(checked)
        assert finding.level == "problem"
        assert "read-only" in finding.sentence
    finally:
        with catalog.begin() as tx:
            tx.exec_driver_sql("SET TRANSACTION READ WRITE")
            _make_read_only(tx, "off")


def _make_read_only(tx: Connection, value: str) -> None:
    name = tx.exec_driver_sql("SELECT current_database()").scalar()
    tx.exec_driver_sql(f'ALTER DATABASE "{name}" SET default_transaction_read_only = {value}')


def test_without_workers_and_reconciler_these_are_the_only_problems(
    checked: CheckedFleet,
) -> None:
    found = list(run_checks(checked))
    assert {finding.check for finding in found if finding.level == "problem"} == {
        "workers",
        "reconciler",
    }
    sentences = " ".join(finding.sentence for finding in found if finding.level == "problem")
    assert "celery -A workers.app worker -Q towline.layers" in sentences
    assert "towline reconcile" in sentences


def test_the_leading_reconciler_is_named(checked: CheckedFleet, catalog: Catalog) -> None:
    with catalog.begin() as tx:
        step_leases.take(tx, step_leases.RECONCILER, "host:1", 30)
    found = fleet_checks.reconciler(checked)
    assert (found.level, "host:1" in found.sentence) == ("ok", True)


def test_an_unreachable_database_is_the_only_problem_of_the_catalog(
    settings: Settings, app: Celery
) -> None:
    catalog = Catalog("postgresql+psycopg://guest@127.0.0.1:1/none")
    found = by_check(CheckedFleet(settings, catalog, app))
    catalog.close()
    assert found["database"].level == "problem"
    assert "schema" not in found
    assert found["queue"].level == "ok"


def test_a_database_without_a_schema_names_the_command(
    settings: Settings, app: Celery, database_url: str
) -> None:
    catalog = Catalog(with_driver(database_url))
    found = by_check(CheckedFleet(settings, catalog, app))
    catalog.close()
    assert found["database"].level == "ok"
    assert found["schema"].level == "problem"
    assert "towline migrate" in found["schema"].sentence
    assert "pulls" not in found


def test_an_unreachable_queue_is_a_problem_and_the_rest_is_still_checked(
    settings: Settings, catalog: Catalog
) -> None:
    unreachable = settings.model_copy(update={"broker_url": UNREACHABLE})
    app = make_app(unreachable)
    found = by_check(CheckedFleet(unreachable, catalog, app))
    app.close()
    assert found["queue"].level == "problem"
    assert SECRET not in found["queue"].sentence
    assert found["pulls"].level == "ok"


def test_a_redis_that_may_evict_messages_is_a_problem(
    checked: CheckedFleet, redis_url: str
) -> None:
    with redis.Redis.from_url(redis_url) as client:
        client.config_set("maxmemory-policy", "allkeys-lru")
        try:
            harmless = redis_checks.eviction(fresh(checked))
            client.config_set("maxmemory", 10_000_000_000)
            harmful = redis_checks.eviction(fresh(checked))
        finally:
            client.config_set("maxmemory", 0)
            client.config_set("maxmemory-policy", "noeviction")
    assert harmless.level == "warning"
    assert harmful.level == "problem"
    assert "set maxmemory-policy to noeviction" in harmful.sentence


def test_a_redis_without_persistence_is_a_warning(checked: CheckedFleet, redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        before = client.config_get("appendonly")["appendonly"]
        client.config_set("appendonly", "no")
        try:
            found = redis_checks.persistence(fresh(checked))
        finally:
            client.config_set("appendonly", before)
    assert found.level == "warning"


def test_a_check_is_left_out_if_what_it_needs_is_not_well(checked: CheckedFleet) -> None:
    elsewhere = checked.settings.model_copy(update={"volume": None})
    found = by_check(CheckedFleet(elsewhere, checked.catalog, checked.app))
    assert found["volume"].level == "information"
    assert "space" not in found
    assert "space" in by_check(checked)


def test_another_volume_is_a_problem(checked: CheckedFleet, volume_path: Path) -> None:
    (volume_path / "towline-volume.json").write_text(
        '{"id": "00000000-0000-0000-0000-000000000000"}'
    )
    found = by_check(checked)
    assert found["volume"].level == "problem"
    assert "Another volume" in found["volume"].sentence


def test_a_volume_that_is_not_mounted_here_is_not_checked(checked: CheckedFleet) -> None:
    elsewhere = checked.settings.model_copy(update={"volume": None})
    found = by_check(CheckedFleet(elsewhere, checked.catalog, checked.app))
    assert found["volume"].level == "information"


def test_too_little_free_space_is_a_problem(checked: CheckedFleet) -> None:
    greedy = checked.settings.model_copy(update={"minimum_free_bytes": 10**18})
    found = by_check(CheckedFleet(greedy, checked.catalog, checked.app))
    assert found["space"].level == "problem"


def test_an_unattended_pull_is_found(checked: CheckedFleet, catalog: Catalog) -> None:
    with catalog.begin() as tx:
        record(tx, "lost")
        change(tx, "lost", RAN_OUT)
    found = attended(checked)
    assert found.level == "problem"
    assert "1 open pull is without" in found.sentence
    assert found.details[0].startswith("lost queued ")


def test_a_pull_with_a_valid_reason_is_attended(checked: CheckedFleet, catalog: Catalog) -> None:
    with catalog.begin() as tx:
        record(tx, "waiting")
    assert attended(checked).level == "ok"


def test_a_pull_whose_message_is_queued_is_attended(
    checked: CheckedFleet, catalog: Catalog
) -> None:
    with catalog.begin() as tx:
        record(tx, "sent")
        change(tx, "sent", RAN_OUT)
        pull = row(tx, "sent")
    send(checked.app, pull)
    assert attended(checked).level == "ok"


def test_a_pull_that_is_being_resolved_is_attended(checked: CheckedFleet, catalog: Catalog) -> None:
    with catalog.begin() as tx:
        admitted(tx, "busy")
        step_leases.take(tx, step_leases.of_pull("busy"), "host:1", 30)
    assert attended(checked).level == "ok"


def test_a_pull_whose_layer_is_being_fetched_is_attended_until_that_lease_ends(
    checked: CheckedFleet, catalog: Catalog
) -> None:
    with catalog.begin() as tx:
        fetching(tx, "busy")
        taken(tx, "host:1", 30, pull_id="busy")
    assert attended(checked).level == "ok"
    with catalog.begin() as tx:
        tx.exec_driver_sql(f"UPDATE leases SET expires_at = {LONG_AGO}")
    assert attended(checked).level == "problem"


def test_a_pull_that_moves_between_two_checks_is_not_lost(
    checked: CheckedFleet, catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    with catalog.begin() as tx:
        admitted(tx, "moving")

    def send_again(_seconds: float) -> None:
        with catalog.begin() as tx:
            change(tx, "moving", "generation = generation + 1")

    monkeypatch.setattr(pull_checks.time, "sleep", send_again)
    assert attended(checked).level == "ok"


def test_a_pull_that_ended_without_an_answer_is_found(
    checked: CheckedFleet, catalog: Catalog
) -> None:
    with catalog.begin() as tx:
        for pull_id in ("young", "old"):
            record(tx, pull_id)
            finish.fail(tx, pull_id, "Forbidden", None, "No.")
        change(tx, "old", f"finished_at = {LONG_AGO}")
    found = pull_checks.answered(checked)
    assert (found.level, found.details) == ("problem", ("old",))


def test_a_pull_that_a_reconciler_answers_between_two_looks_is_no_problem(
    checked: CheckedFleet, catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    with catalog.begin() as tx:
        for pull_id in ("first", "second"):
            record(tx, pull_id)
            finish.fail(tx, pull_id, "Forbidden", None, "No.")
            change(tx, pull_id, f"finished_at = {LONG_AGO}")
        step_leases.take(tx, step_leases.RECONCILER, "host:1", 30)
    # Redis was lost: the reconciler answers one pull in each round.
    rounds = iter(["first", "second"])

    def answer_one(_seconds: float) -> None:
        with catalog.begin() as tx:
            change(tx, next(rounds), "answered_at = now()")

    monkeypatch.setattr(pull_checks.time, "sleep", answer_one)
    assert pull_checks.answered(checked).level == "ok"


def test_a_pull_that_no_reconciler_answers_in_several_looks_is_a_problem(
    checked: CheckedFleet, catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    with catalog.begin() as tx:
        record(tx, "old")
        finish.fail(tx, "old", "Forbidden", None, "No.")
        change(tx, "old", f"finished_at = {LONG_AGO}")
        step_leases.take(tx, step_leases.RECONCILER, "host:1", 30)
    looks: list[float] = []
    monkeypatch.setattr(pull_checks.time, "sleep", looks.append)
    assert pull_checks.answered(checked).level == "problem"
    assert len(looks) == 6
    # Without the queue the reconciler cannot answer.
    away = make_app(checked.settings.model_copy(update={"broker_url": UNREACHABLE}))
    assert pull_checks.answered(replace(checked, app=away)).level == "problem"
    away.close()
    assert len(looks) == 6


def test_failed_pulls_are_counted_by_class_unless_they_were_tried_again(
    checked: CheckedFleet, catalog: Catalog
) -> None:
    with catalog.begin() as tx:
        for pull_id, error in (("a", "Forbidden"), ("b", "Forbidden"), ("c", "TooLarge")):
            record(tx, pull_id)
            finish.fail(tx, pull_id, error, None, f"{pull_id}.")
        record(tx, "again", retry_of="c")
    (found,) = pull_checks.failures(checked)
    assert found.level == "information"
    assert found.sentence.startswith("2 pulls failed with Forbidden: once the cause is gone, run ")


def test_a_pause_is_a_warning_with_the_command_that_ends_it(
    checked: CheckedFleet, catalog: Catalog
) -> None:
    with catalog.begin() as tx:
        pauses.pause(tx, "registry", "ghcr.io")
    (found,) = fleet_checks.paused(checked)
    assert found.level == "warning"
    assert "`towline resume --registry ghcr.io`" in found.sentence


def test_clocks_that_differ_are_a_warning(
    checked: CheckedFleet, catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = database_checks.doctor_checks.server

    def shifted(tx: Connection) -> object:
        real = server(tx)
        return replace(real, now=real.now + timedelta(seconds=90))

    assert database_checks.clock(checked).level == "ok"
    monkeypatch.setattr(database_checks.doctor_checks, "server", shifted)
    found = database_checks.clock(checked)
    assert (found.level, "90.0 s apart" in found.sentence) == ("warning", True)


def test_rate_limited_registries_and_excluded_mirrors_are_named(
    checked: CheckedFleet, settings: Settings
) -> None:
    assert [finding.level for finding in registry_checks.not_asked(checked)] == ["ok"]
    client = connect(settings.broker_url.get_secret_value()) if settings.broker_url else None
    rate_limiter = RateLimiter(client, Limits(connections=9))
    rate_limiter.acquire("busy.example").back_off(100)
    rate_limiter.acquire("dead.example:5000").mark_unreachable()
    busy, dead = registry_checks.not_asked(checked)
    rate_limiter.close()
    assert busy.level == "information"
    assert "busy.example asked the fleet to wait" in busy.sentence
    assert dead.level == "warning"
    assert "The mirror dead.example:5000 did not answer" in dead.sentence


@pytest.mark.parametrize(
    ("text", "level"), [('[registries."a.b"]\nproxy = "http://p:1"', "ok"), ("[", "problem")]
)
def test_the_registries_file_is_read(
    checked: CheckedFleet, tmp_path: Path, text: str, level: str
) -> None:
    assert list(registry_checks.configured(checked)) == []
    file = tmp_path / "registries.toml"
    file.write_text(text)
    settings = checked.settings.model_copy(update={"registries_file": file})
    (found,) = registry_checks.configured(replace(checked, settings=settings))
    assert found.level == level
    assert str(file) in found.sentence
