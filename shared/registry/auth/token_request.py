"""Which token a registry's challenges ask for."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from shared.registry.auth.challenges import Challenge


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """The token that a Bearer challenge asks for. `realm`: the URL of the token service."""

    realm: str
    service: str
    scopes: tuple[str, ...]

    @classmethod
    def by(cls, challenges: Sequence[Challenge], repository: str) -> "TokenRequest | None":
        """Return the token that the first Bearer challenge asks for, with the scopes of all
        challenges of the same service. None if no Bearer challenge has a realm.
        """
        bearers = [challenge for challenge in challenges if challenge.scheme == "bearer"]
        bearers = [challenge for challenge in bearers if "realm" in challenge.parameters]
        if not bearers:
            return None
        realm, service = _realm_and_service(bearers[0])
        scopes = [f"repository:{repository}:pull"]
        for challenge in bearers:
            if _realm_and_service(challenge) == (realm, service):
                scopes += challenge.parameters.get("scope", "").split()
        return cls(realm, service, _merge_scopes(scopes))


def _merge_scopes(scopes: Iterable[str]) -> tuple[str, ...]:
    """The scopes, sorted, with one entry for each resource: `repository:team/app:pull,push`."""
    merged: dict[str, set[str]] = {}
    for scope in scopes:
        resource, colon, actions = scope.rpartition(":")
        merged.setdefault(resource + colon if colon else scope, set()).update(
            actions.split(",") if colon else ()
        )
    return tuple(
        sorted(resource + ",".join(sorted(actions)) for resource, actions in merged.items())
    )


def _realm_and_service(challenge: Challenge) -> tuple[str, str]:
    return challenge.parameters["realm"], challenge.parameters.get("service", "")
