"""Rate limit headers, in the forms that registries use."""

import pytest

from shared.registry.rate_limit_headers import RateLimit


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        (
            {"ratelimit-limit": "100;w=21600", "ratelimit-remaining": "76;w=21600"},
            RateLimit(100, 76, 21600, None),
        ),
        (
            {"RateLimit-Limit": "100", "RateLimit-Remaining": "0", "RateLimit-Reset": "30"},
            RateLimit(100, 0, None, 30.0),
        ),
        ({"RateLimit-Limit": "100, 100;w=60, 5000;w=3600"}, RateLimit(100, None, 60, None)),
        (
            {"RateLimit": "limit=100, remaining=76, reset=10", "RateLimit-Policy": "100;w=60"},
            RateLimit(100, 76, 60, 10.0),
        ),
        ({"RateLimit": "remaining=0"}, RateLimit(remaining=0)),
        ({"RateLimit": '"default";r=50;t=30'}, RateLimit(remaining=50, reset_seconds=30.0)),
        (
            {
                "RateLimit": '"day";r=90;t=9000, "hour, or so";r=5;t=30',
                "RateLimit-Policy": '"day";q=100;w=86400,"hour, or so";q=10;w=3600',
            },
            RateLimit(10, 5, 3600, 30.0),
        ),
        ({"X-RateLimit-Limit": "60", "X-RateLimit-Remaining": "59"}, RateLimit(60, 59)),
        # A Unix time, not a number of seconds.
        (
            {"X-RateLimit-Remaining": "59", "X-RateLimit-Reset": "1764000000"},
            RateLimit(remaining=59),
        ),
        ({"RateLimit-Remaining": "-1"}, None),
        ({"RateLimit-Remaining": "many"}, None),
        ({"RateLimit": ""}, None),
        ({}, None),
        ({"Content-Length": "5"}, None),
    ],
)
def test_rate_limit_headers_are_parsed(headers: dict[str, str], expected: RateLimit | None) -> None:
    assert RateLimit.of(headers) == expected
