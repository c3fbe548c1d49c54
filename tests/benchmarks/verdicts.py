"""Whether a client did what it owes its user: one rule for towline and for every other client.

1. It ends within the time limit.
2. No credentials reach a host that they are not for; a metadata service is never asked.
3. It prints no secret.
4. What it says it pulled is there, byte for byte.
5. It pulls what can be pulled, and refuses what must be refused. Where the specifications leave
   that open (`Promise.is_choice`), it may do either.
6. It waits as long as it was asked to, and fetches no more bytes twice than necessary.
"""

from tests.benchmarks.clients import Ended
from tests.fakes.misbehaviour import Misbehaviour
from tests.fakes.misbehaviour.scene import Scene
from tests.support.secrecy import leaks_in

OK = "ok"

# The time limit.
SECONDS = 20
# For a silent or permanently busy registry: only towline has a setting for how long to wait.
PATIENT_SECONDS = 90


def judge(fault: Misbehaviour, scene: Scene, ended: Ended, *, is_whole: bool, waited: float) -> str:
    """`ok`, or what went wrong first, in a few words. `waited`: seconds after a 429 or 503."""
    promise = fault.promise
    complete = ended.status == 0
    as_promised = complete is (promise.error is None) or promise.is_choice
    refetched, bound = scene.refetched_bytes, promise.refetched_bytes
    wrong = [
        (ended.status is None, "hangs"),
        *((True, violation) for violation in scene.violations(strict=not promise.is_choice)),
        (leaks_in(ended.said), "prints a secret"),
        (not as_promised, "accepts it" if complete else "gives up"),
        (complete and not is_whole, "wrong bytes"),
        (complete and bound is not None and refetched > bound, f"{refetched // 1000} kB twice"),
        (complete and waited < promise.waits_seconds, "retries too early"),
    ]
    return next((words for is_so, words in wrong if is_so), OK)


def waited_seconds(scene: Scene) -> float:
    """Seconds between a 429 or 503 and the next request for the same path."""
    for index, request in enumerate(requests := scene.registry.requests):
        if request.status in {429, 503}:
            path = request.path.partition("?")[0]
            again = [request for request in requests[index + 1 :] if request.path.startswith(path)]
            return again[0].at - request.at if again else 0.0
    return float("inf")
