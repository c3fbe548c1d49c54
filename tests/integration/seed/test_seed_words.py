"""S41 to S45: the display of a pull, and the classes of its errors."""

import sys

import pytest

from shared import errors
from tests.driver import Driver
from tests.fakes.faults import Status
from tests.fakes.registry import Auth, FakeRegistry
from tests.integration.seed.broken_off import partial, try_layer
from workers.cli.display.progress import display_for
from workers.cli.watching import Snapshot

pytestmark = pytest.mark.integration


def output(driver: Driver, capsys: pytest.CaptureFixture[str]) -> str:
    display = display_for(sys.stdout, quiet=False)
    pull = driver.newest()
    display.show([Snapshot(pull, driver.layers(pull.id))])
    display.close()
    return capsys.readouterr().out


def test_s41_the_phase_of_a_pull_is_shown(
    driver: Driver, registry: FakeRegistry, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    driver.plan("p", {"reference": name, "platform": "linux/amd64"})
    assert f"{name}: fetching, 0 of 2 layers, 0 bytes of 3.0 MB" in output(driver, capsys)


def test_s42_the_number_of_stored_layers_is_shown(
    driver: Driver, registry: FakeRegistry, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    driver.plan("p", {"reference": name, "platform": "linux/amd64"})
    try_layer(driver)
    assert "1 of 2 layers" in output(driver, capsys)


def test_s43_a_layer_in_progress_shows_its_bytes(
    driver: Driver, registry: FakeRegistry, name: str
) -> None:
    partial(driver, registry, name, 1_000_000)
    assert driver.layers("p")[0].bytes_done == 1_000_000


def test_s44_a_failed_pull_is_shown_without_secrets(driver: Driver, registry: FakeRegistry) -> None:
    with pytest.raises(errors.ManifestUnknown):
        driver.pull(f"{registry.host}/nothing:1")
    row = driver.newest()
    assert row.error_message is not None
    assert row.error_message.endswith(".")
    assert not any(token in str(row) for token in (registry.auth or Auth()).issued)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (401, errors.Unauthorized),
        (403, errors.Forbidden),
        (404, errors.ManifestUnknown),
        (429, errors.RateLimited),
        (500, errors.RegistryUnavailable),
    ],
)
def test_s45_each_refusal_has_its_own_error_class(
    driver: Driver, registry: FakeRegistry, name: str, status: int, kind: type[Exception]
) -> None:
    registry.fail(Status(path="manifests", status=status))
    with pytest.raises(kind):
        driver.pull(name)
