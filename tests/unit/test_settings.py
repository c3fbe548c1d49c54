"""Settings are read once; an unusable one is refused with one sentence."""

from pathlib import Path

import pytest

from shared.errors import InvalidArgument
from shared.settings import Settings


def test_nothing_set_means_the_embedded_stack(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOWLINE_HOME", "/srv/towline")
    settings = Settings.read()
    assert settings.embedded
    assert settings.volume_path == Path("/srv/towline/volume")


@pytest.mark.parametrize(
    ("given", "missing"),
    [
        ("TOWLINE_BROKER_URL", "TOWLINE_DATABASE_URL"),
        ("TOWLINE_DATABASE_URL", "TOWLINE_BROKER_URL"),
    ],
)
def test_one_url_alone_is_refused(
    monkeypatch: pytest.MonkeyPatch, given: str, missing: str
) -> None:
    monkeypatch.setenv(given, "redis://:s3cret@h")
    with pytest.raises(InvalidArgument, match=f"{missing} is not set") as caught:
        Settings.read()
    assert "s3cret" not in str(caught.value)


def test_a_refused_value_is_named_by_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOWLINE_ATTEMPTS", "s3cret")
    with pytest.raises(InvalidArgument, match="TOWLINE_ATTEMPTS cannot be used") as caught:
        Settings.read()
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+psycopg"])
def test_every_spelling_of_a_postgresql_url_is_accepted(scheme: str) -> None:
    settings = Settings.read(broker_url="redis://h", database_url=f"{scheme}://u:p@h/d")
    assert settings.sqlalchemy_url == "postgresql+psycopg://u:p@h/d"


def test_another_database_is_refused() -> None:
    with pytest.raises(InvalidArgument, match=r"postgresql://") as caught:
        Settings.read(broker_url="redis://h", database_url="mysql://u:s3cret@h/d")
    assert "s3cret" not in str(caught.value)


def test_several_brokers_need_a_result_url() -> None:
    brokers = "redis://:s3cret@a/0;redis://:s3cret@b/0"
    with pytest.raises(InvalidArgument, match="TOWLINE_RESULT_URL") as caught:
        Settings.read(broker_url=brokers, database_url="postgresql://h/d")
    assert "s3cret" not in str(caught.value)
    Settings.read(broker_url=brokers, result_url="redis://a/0", database_url="postgresql://h/d")


def test_urls_do_not_show_in_a_print_of_the_settings() -> None:
    settings = Settings.read(broker_url="redis://:s3cret@h", database_url="postgresql://u:s3cret@h")
    assert "s3cret" not in repr(settings)


def test_a_fleet_needs_a_volume() -> None:
    settings = Settings.read(broker_url="redis://h", database_url="postgresql://h/d")
    with pytest.raises(InvalidArgument, match="TOWLINE_VOLUME is not set"):
        _ = settings.volume_path


@pytest.mark.parametrize(
    ("allowed", "blocked", "registry", "verdict"),
    [
        ("*", "", "docker.io", True),
        ("docker.io, *.example.com", "", "r.example.com", True),
        ("docker.io", "", "quay.io", False),
        ("*", "quay.io", "Quay.io", False),
        ("docker.io/library/*", "", "docker.io", False),
        ("docker.io/team/*", "", "docker.io", True),
        ("*", "docker.io/team/*", "docker.io", False),
        ("*", "docker.io/teams/*", "docker.io", True),
        ("*/team/app", "", "r.example:5000", True),
    ],
)
def test_lists_of_registries_are_globs(
    allowed: str, blocked: str, registry: str, *, verdict: bool
) -> None:
    settings = Settings.read(allowed_registries=allowed, blocked_registries=blocked)
    assert settings.allows(registry, "team/app") is verdict
