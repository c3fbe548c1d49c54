"""No secret of a fleet is found anywhere afterwards, even if its workers log everything."""

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from urllib.error import URLError
from urllib.request import Request, urlopen

import pytest

from tests.acceptance.fleet import Fleet
from tests.fakes.faults import Redirect, Status
from tests.fakes.registry import Auth, FakeRegistry
from tests.support.secrecy import leaks_in, passwords_in, secret
from tests.support.waiting import wait_until
from workers.embedded.servers import free_port

PASSWORD = secret("login")
# The API needs a limit: its first page would not show every task.
FLOWER_PAGES = ("api/tasks?limit=1000", "api/workers?refresh=true", "tasks", "workers", "broker")


class Flower:
    """A Flower for a fleet, with its own login."""

    def __init__(self, fleet: Fleet) -> None:
        login = f"ops:{secret('flower')}"
        port = free_port()
        self._url = f"http://127.0.0.1:{port}"
        self._headers = {"Authorization": f"Basic {base64.b64encode(login.encode()).decode()}"}
        command = ["-m", "celery", "-A", "workers.app", "flower", "--address=127.0.0.1"]
        self.process, _ = fleet.spawn(
            "flower", [*command, f"--port={port}"], {"FLOWER_BASIC_AUTH": login}
        )

    def page(self, path: str) -> str:
        """The text of a page; "" while Flower does not answer."""
        try:
            with urlopen(Request(f"{self._url}/{path}", headers=self._headers)) as answer:
                return str(answer.read().decode())
        except URLError:
            return ""


@pytest.fixture
def confided(fleet: Fleet, tmp_path: Path, registry: FakeRegistry) -> Fleet:
    """A fleet that knows a password, and whose workers log at DEBUG level."""
    registry.auth = Auth("bearer", users={"ci": PASSWORD})
    auths = {registry.host: {"username": "ci", "password": PASSWORD}}
    (tmp_path / "config.json").write_text(json.dumps({"auths": auths}))
    fleet.settings |= {"DOCKER_CONFIG": str(tmp_path), "TOWLINE_ATTEMPTS": "2"}
    fleet.loglevel = "DEBUG"
    return fleet


@pytest.fixture
def flower(confided: Fleet) -> Iterator[Flower]:
    flower = Flower(confided)
    wait_until(lambda: flower.page("api/workers"), timeout=30)
    yield flower
    flower.process.terminate()
    flower.process.wait(timeout=10)


def test_no_secret_is_left_anywhere(
    confided: Fleet, flower: Flower, registry: FakeRegistry
) -> None:
    confided.start_worker()
    with FakeRegistry() as storage, FakeRegistry() as closed:
        for name, layer in (("good", b"layer"), ("cut", b"another"), ("none", b"third")):
            registry.put_image(f"team/{name}", "1", [layer])
            storage.put_image(f"team/{name}", "1", [layer])
        # Three signed redirects: one works, one is refused, and one leads to a closed port.
        registry.fail(Redirect(path="team/good/blobs", host=storage.host))
        registry.fail(Redirect(path="team/cut/blobs", host=closed.host))
        answer = (
            "<Error><Code>SignatureDoesNotMatch</Code><Message>No.</Message>"
            f"<SignatureProvided>{secret('signature')}</SignatureProvided></Error>"
        )
        closed.fail(Status(path="/", status=403, body=answer.encode()))
        with FakeRegistry() as gone:
            registry.fail(Redirect(path="team/none/blobs", host=gone.host))
        # A registry and a token service that repeat secrets in their errors.
        text = f"see https://s.example/x?sig={secret('y')} or Bearer {secret('z')}"
        body = json.dumps({"errors": [{"code": "DENIED", "message": text}]}).encode()
        registry.fail(Status(path="team/gossip/manifests", status=403, body=body))

        for name, status in (("good", 0), ("cut", 1), ("none", 1), ("gossip", 1)):
            pulled = confided.towline(
                "pull", "--platform", "linux/amd64", reference(registry, name)
            )
            assert pulled.returncode == status, pulled.stderr
        registry.fail(Status(path="/token", status=401, body=f"{PASSWORD} is wrong".encode()))
        refused = confided.towline("pull", "--json", reference(registry, "new"))
        assert "Unauthorized" in refused.stdout

    pulls = json.loads(confided.towline("status", "--json").stdout)["items"]
    assert len(pulls) == 5
    for pull in pulls:
        confided.towline("status", pull["id"])
        confided.towline("explain", pull["id"])
    for command in (["ls"], ["doctor"], ["inspect", reference(registry, "good"), "--json"]):
        confided.towline(*command)

    wait_until(lambda: all(pull["id"] in flower.page(FLOWER_PAGES[0]) for pull in pulls))
    shown = "\n".join(map(flower.page, FLOWER_PAGES))
    passwords = passwords_in(confided.database_url, confided.redis_url)
    assert leaks_in(shown, "Flower: ", passwords) == []
    # The fixture `fleet` (conftest.py) searches everything else when the fleet has ended.


def reference(registry: FakeRegistry, name: str) -> str:
    return f"{registry.host}/team/{name}:1"
