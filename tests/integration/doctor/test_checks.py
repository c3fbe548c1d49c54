"""`towline doctor` on a real PostgreSQL and Redis: it finds and names everything that is wrong."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
import redis
from celery import Celery

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
from workers.doctor import catalog_checks, queue_checks, registry_checks
from workers.doctor.examination import CheckedFleet, run_checks
from workers.doctor.finding import CheckResult
from workers.messages.client import send
from workers.preparing import prepare_fleet

SECRET = secret("login")
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
def patient(settings: Settings, catalog: Catalog, app: Celery) -> CheckedFleet:
    return CheckedFleet(settings, catalog, app)


@pytest.fixture(autouse=True)
def in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """No second look and no slow worker: nothing changes hands in these tests."""
    monkeypatch.setattr(catalog_checks, "_SECOND_LOOK_SECONDS", 0.0)
    monkeypatch.setattr(queue_checks, "_ANSWER_SECONDS", (0.2,))


@pytest.fixture
def tx(catalog: Catalog) -> Iterator[Connection]:
    with catalog.begin() as tx:
        yield tx


def attended(patient: CheckedFleet) -> CheckResult:
    return catalog_checks.check_pulls(patient.catalog, patient.app, patient.settings)


def by_check(patient: CheckedFleet) -> dict[str, CheckResult]:
    return {finding.check: finding for finding in run_checks(patient)}


def test_sick_and_silent_nodes_are_problems_and_the_others_are_counted(
    patient: CheckedFleet, tx: Connection
) -> None:
    sick = "The volume cannot make a file (Read-only file system)."
    for name, reason in (("a", None), ("b", sick), ("c", None), ("d", None)):
        node_rows.write(tx, Node(name, reason, "1.2.3", 8, None, None))
    tx.exec_driver_sql(f"UPDATE nodes SET seen_at = {LONG_AGO} WHERE name = 'd'")
    tx.commit()
    found = [finding for finding in run_checks(patient) if finding.check == "nodes"]
    assert [finding.level for finding in found] == ["problem", "problem", "ok"]
    assert "b is sick: " + sick in found[0].sentence
    assert "d was last seen at" in found[1].sentence
    assert (found[2].sentence, found[2].details) == ("2 nodes are well.", ["a", "c"])


def test_a_read_only_database_is_a_problem(catalog: Catalog) -> None:
    try:
        with catalog.begin() as tx:
            _make_read_only(tx, "on")
        catalog.close()
        finding = catalog_checks.database(catalog)
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
    patient: CheckedFleet,
) -> None:
    found = list(run_checks(patient))
    assert {finding.check for finding in found if finding.level == "problem"} == {
        "workers",
        "reconciler",
    }
    sentences = " ".join(finding.sentence for finding in found if finding.level == "problem")
    assert "celery -A workers.app worker -Q towline.layers" in sentences
    assert "towline reconcile" in sentences


def test_the_leading_reconciler_is_named(patient: CheckedFleet, catalog: Catalog) -> None:
    with catalog.begin() as tx:
        step_leases.take(tx, step_leases.RECONCILER, "host:1", 30)
    found = catalog_checks.reconciler(catalog)
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
    unreachable = settings.model_copy(
        update={
            "broker_url": Settings.read(
                broker_url=f"redis://:{SECRET}@127.0.0.1:1/0", database_url="postgresql://h/d"
            ).broker_url
        }
    )
    app = make_app(unreachable)
    found = by_check(CheckedFleet(unreachable, catalog, app))
    app.close()
    assert found["queue"].level == "problem"
    assert SECRET not in found["queue"].sentence
    assert found["pulls"].level == "ok"


def test_a_redis_that_may_evict_messages_is_a_problem(
    patient: CheckedFleet, redis_url: str
) -> None:
    with redis.Redis.from_url(redis_url) as client:
        client.config_set("maxmemory-policy", "allkeys-lru")
        try:
            harmless = {finding.check: finding for finding in queue_checks.check_redis(patient.app)}
            client.config_set("maxmemory", 10_000_000_000)
            harmful = {finding.check: finding for finding in queue_checks.check_redis(patient.app)}
        finally:
            client.config_set("maxmemory", 0)
            client.config_set("maxmemory-policy", "noeviction")
    assert harmless["eviction"].level == "warning"
    assert harmful["eviction"].level == "problem"
    assert "set maxmemory-policy to noeviction" in harmful["eviction"].sentence


def test_a_redis_without_persistence_is_a_warning(patient: CheckedFleet, redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        before = client.config_get("appendonly")["appendonly"]
        client.config_set("appendonly", "no")
        try:
            found = {finding.check: finding for finding in queue_checks.check_redis(patient.app)}
        finally:
            client.config_set("appendonly", before)
    assert found["persistence"].level == "warning"


def test_another_volume_is_a_problem(patient: CheckedFleet, volume_path: Path) -> None:
    (volume_path / "towline-volume.json").write_text(
        '{"id": "00000000-0000-0000-0000-000000000000"}'
    )
    found = by_check(patient)
    assert found["volume"].level == "problem"
    assert "Another volume" in found["volume"].sentence


def test_a_volume_that_is_not_mounted_here_is_not_checked(patient: CheckedFleet) -> None:
    elsewhere = patient.settings.model_copy(update={"volume": None})
    found = by_check(CheckedFleet(elsewhere, patient.catalog, patient.app))
    assert found["volume"].level == "information"


def test_too_little_free_space_is_a_problem(patient: CheckedFleet) -> None:
    greedy = patient.settings.model_copy(update={"minimum_free_bytes": 10**18})
    found = by_check(CheckedFleet(greedy, patient.catalog, patient.app))
    assert found["space"].level == "problem"


def test_an_unattended_pull_is_found(patient: CheckedFleet, catalog: Catalog) -> None:
    with catalog.begin() as tx:
        record(tx, "lost")
        change(tx, "lost", RAN_OUT)
    found = attended(patient)
    assert found.level == "problem"
    assert "1 open pull is without" in found.sentence
    assert found.details[0].startswith("lost queued ")


def test_a_pull_with_a_valid_reason_is_attended(patient: CheckedFleet, catalog: Catalog) -> None:
    with catalog.begin() as tx:
        record(tx, "waiting")
    assert attended(patient).level == "ok"


def test_a_pull_whose_message_is_queued_is_attended(
    patient: CheckedFleet, catalog: Catalog
) -> None:
    with catalog.begin() as tx:
        record(tx, "sent")
        change(tx, "sent", RAN_OUT)
        pull = row(tx, "sent")
    send(patient.app, pull)
    assert attended(patient).level == "ok"


def test_a_pull_that_is_being_resolved_is_attended(patient: CheckedFleet, catalog: Catalog) -> None:
    with catalog.begin() as tx:
        admitted(tx, "busy")
        step_leases.take(tx, step_leases.of_pull("busy"), "host:1", 30)
    assert attended(patient).level == "ok"


def test_a_pull_whose_layer_is_being_fetched_is_attended_until_that_lease_ends(
    patient: CheckedFleet, catalog: Catalog
) -> None:
    with catalog.begin() as tx:
        fetching(tx, "busy")
        taken(tx, "host:1", 30, pull_id="busy")
    assert attended(patient).level == "ok"
    with catalog.begin() as tx:
        tx.exec_driver_sql(f"UPDATE leases SET expires_at = {LONG_AGO}")
    assert attended(patient).level == "problem"


def test_a_pull_that_moves_between_two_checks_is_not_lost(
    patient: CheckedFleet, catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    with catalog.begin() as tx:
        admitted(tx, "moving")

    def send_again(_seconds: float) -> None:
        with catalog.begin() as tx:
            change(tx, "moving", "generation = generation + 1")

    monkeypatch.setattr(catalog_checks.time, "sleep", send_again)
    assert attended(patient).level == "ok"


def test_a_pull_that_ended_without_an_answer_is_found(catalog: Catalog) -> None:
    with catalog.begin() as tx:
        for pull_id in ("young", "old"):
            record(tx, pull_id)
            finish.fail(tx, pull_id, "Forbidden", None, "No.")
        change(tx, "old", f"finished_at = {LONG_AGO}")
    found = catalog_checks.answered(catalog)
    assert (found.level, found.details) == ("problem", ("old",))


def test_a_pull_that_a_reconciler_answers_between_two_looks_is_no_problem(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
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

    monkeypatch.setattr(catalog_checks.time, "sleep", answer_one)
    assert catalog_checks.answered(catalog).level == "ok"


def test_a_pull_that_no_reconciler_answers_in_several_looks_is_a_problem(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    with catalog.begin() as tx:
        record(tx, "old")
        finish.fail(tx, "old", "Forbidden", None, "No.")
        change(tx, "old", f"finished_at = {LONG_AGO}")
        step_leases.take(tx, step_leases.RECONCILER, "host:1", 30)
    looks: list[float] = []
    monkeypatch.setattr(catalog_checks.time, "sleep", looks.append)
    assert catalog_checks.answered(catalog).level == "problem"
    assert len(looks) == 6
    # Without the queue the reconciler cannot answer.
    assert catalog_checks.answered(catalog, queue_is_away=True).level == "problem"
    assert len(looks) == 6


def test_failed_pulls_are_counted_by_class_unless_they_were_tried_again(catalog: Catalog) -> None:
    with catalog.begin() as tx:
        for pull_id, error in (("a", "Forbidden"), ("b", "Forbidden"), ("c", "TooLarge")):
            record(tx, pull_id)
            finish.fail(tx, pull_id, error, None, f"{pull_id}.")
        record(tx, "again", retry_of="c")
    (found,) = catalog_checks.failures(catalog)
    assert found.level == "information"
    assert found.sentence.startswith("2 pulls failed with Forbidden: once the cause is gone, run ")


def test_a_pause_is_a_warning_with_the_command_that_ends_it(catalog: Catalog) -> None:
    with catalog.begin() as tx:
        pauses.pause(tx, "registry", "ghcr.io")
    (found,) = catalog_checks.check_pauses(catalog)
    assert found.level == "warning"
    assert "`towline resume --registry ghcr.io`" in found.sentence


def test_clocks_that_differ_are_a_warning(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = catalog_checks.doctor_checks.server

    def shifted(tx: Connection) -> object:
        real = server(tx)
        return replace(real, now=real.now + timedelta(seconds=90))

    assert catalog_checks.clock(catalog).level == "ok"
    monkeypatch.setattr(catalog_checks.doctor_checks, "server", shifted)
    found = catalog_checks.clock(catalog)
    assert (found.level, "90.0 s apart" in found.sentence) == ("warning", True)


def test_rate_limited_registries_and_excluded_mirrors_are_named(settings: Settings) -> None:
    assert [finding.level for finding in registry_checks.check_rate_limits(settings)] == ["ok"]
    client = connect(settings.broker_url.get_secret_value()) if settings.broker_url else None
    rate_limiter = RateLimiter(client, Limits(connections=9))
    rate_limiter.acquire("busy.example").back_off(100)
    rate_limiter.acquire("dead.example:5000").mark_unreachable()
    busy, dead = registry_checks.check_rate_limits(settings)
    rate_limiter.close()
    assert busy.level == "information"
    assert "busy.example asked the fleet to wait" in busy.sentence
    assert dead.level == "warning"
    assert "The mirror dead.example:5000 did not answer" in dead.sentence


@pytest.mark.parametrize(
    ("text", "level"), [('[registries."a.b"]\nproxy = "http://p:1"', "ok"), ("[", "problem")]
)
def test_the_registries_file_is_read(
    settings: Settings, tmp_path: Path, text: str, level: str
) -> None:
    assert list(registry_checks.configured(settings)) == []
    file = tmp_path / "registries.toml"
    file.write_text(text)
    (found,) = registry_checks.configured(settings.model_copy(update={"registries_file": file}))
    assert found.level == level
    assert str(file) in found.sentence
