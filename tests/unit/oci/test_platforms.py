"""Platforms: parsing, normal form, and which image runs where."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import InvalidManifest, InvalidPlatform, TooLarge
from shared.oci.platform import Platform


@pytest.mark.parametrize(
    ("text", "normal", "directory"),
    [
        ("linux/x86_64", "linux/amd64", "linux-amd64"),
        ("Linux/AARCH64", "linux/arm64", "linux-arm64"),
        ("linux/arm64/v8", "linux/arm64", "linux-arm64"),
        ("linux/arm", "linux/arm/v7", "linux-arm-v7"),
        ("linux/armel", "linux/arm/v6", "linux-arm-v6"),
        ("macos/arm64", "darwin/arm64", "darwin-arm64"),
        ("linux/amd64/v1", "linux/amd64", "linux-amd64"),
        ("linux/amd64/v3", "linux/amd64/v3", "linux-amd64-v3"),
        ("linux/i386/x", "linux/386", "linux-386"),
        ("linux/arm64/v9.0", "linux/arm64/v9", "linux-arm64-v9"),
        ("windows()/amd64", "windows/amd64", "windows-amd64"),
        ("windows(10.0.1)/amd64", "windows(10.0.1)/amd64", "windows(10.0.1)-amd64"),
        ("linux(+b+a+b)/amd64", "linux(+a+b)/amd64", "linux(+a+b)-amd64"),
    ],
)
def test_platforms_are_normalised(text: str, normal: str, directory: str) -> None:
    platform = Platform.parse(text)
    assert (str(platform), platform.directory) == (normal, directory)


@pytest.mark.parametrize(
    ("name", "platform"),
    [
        ("x86_64", "linux/amd64"),
        ("aarch64", "linux/arm64"),
        ("armv6l", "linux/arm/v6"),
        ("armv7l", "linux/arm/v7"),
        ("i686", "linux/386"),
        ("loongarch64", "linux/loong64"),
    ],
)
def test_the_machines_architecture_has_the_name_that_images_use(
    name: str, platform: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("platform.machine", lambda: name)
    assert str(Platform.of_machine()) == platform
    assert str(Platform.parse("linux")) == platform


def test_a_single_part_is_an_os_or_an_architecture() -> None:
    assert Platform.parse("windows").os == "windows"
    assert Platform.parse("s390x") == Platform("linux", "s390x")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/",
        "/linux/arm",
        "a/b/c/d",
        "linux/",
        "linux/arm/",
        "linux /arm",
        "linux/&arm",
        "linux amd64",
        "linux/*",
        "linux(+)/amd64",
        "linux(a/b)/amd64",
        "linux/amd64(1)",
        "amd64(1)",
        "nonsense",
        f"linux/{'a' * 128}",
    ],
)
def test_a_malformed_platform_is_refused(text: str) -> None:
    with pytest.raises(InvalidPlatform):
        Platform.parse(text)


@pytest.mark.parametrize(
    ("want", "runs", "does_not"),
    [
        ("linux/ppc64le/power10", ["power8", "power10", ""], ["power11", "rva20u64"]),
        ("linux/riscv64/rva23u64", ["rva20u64", "rva23u64", ""], ["rva24u64", "rva20s64"]),
        ("linux/riscv64", [""], ["rva20u64"]),
        ("linux/s390x/z14", ["z13", ""], ["z15"]),
        ("linux/arm64/v9.8", ["v9", "v9.8", "v8.9", "v8"], ["v9.9", "v8.10", "v8.9.1", "v7"]),
        ("linux/arm64/v8", ["v8"], ["v8.1", "v9", "x"]),
        ("linux/arm/v4", ["v4"], ["v5", "v7"]),
        ("linux/amd64/v4", ["v1", "v2", "v3", "v4", ""], ["v5", "power2"]),
    ],
)
def test_a_variant_runs_itself_and_lower_variants_of_the_same_form(
    want: str, runs: list[str], does_not: list[str]
) -> None:
    wanted = Platform.parse(want)
    images = {
        variant: Platform(wanted.os, wanted.architecture, variant or None)
        for variant in runs + does_not
    }
    assert [variant for variant in images if wanted.matches(images[variant])] == runs


def test_huge_numbers_in_variants_take_no_extra_time() -> None:
    assert Platform.parse("linux/amd64/v1000000000").matches(Platform.parse("linux/amd64/v2"))
    huge = Platform.parse(f"linux/amd64/v{'9' * 100}")
    assert huge.matches(huge)
    assert not huge.matches(Platform.parse("linux/amd64"))


@pytest.mark.parametrize(
    "best_first",
    [
        ["linux/amd64/v3", "linux/amd64/v2", "linux/amd64"],
        ["linux/arm64/v9.2", "linux/arm64/v9.1", "linux/arm64/v9", "linux/arm64/v8.7"],
        ["linux/arm64/v9", "linux/arm64/v8.5", "linux/arm64/v8.1", "linux/arm64"],
        ["linux/arm/v7", "linux/arm/v6", "linux/arm/v5"],
        ["linux/ppc64le/power10", "linux/ppc64le/power9", "linux/ppc64le"],
        ["linux(+a+b)/amd64", "linux(+b)/amd64", "linux/amd64"],
        ["linux(+a)/amd64/v3", "linux/amd64/v3", "linux(+a)/amd64/v2"],
        [
            "windows(10.0.26100)/amd64",
            "windows(10.0.25398)/amd64",
            "windows(10.0.20348.1)/amd64",
            "windows/amd64",
        ],
    ],
)
def test_images_are_sorted_by_closeness(best_first: list[str]) -> None:
    wanted = Platform.parse(best_first[0])
    ranks = [wanted.closeness(Platform.parse(text)) for text in best_first]
    known = [rank for rank in ranks if rank is not None]
    assert len(known) == len(best_first)
    assert known == sorted(set(known))


@pytest.mark.parametrize(
    ("host", "image", "runs"),
    [
        ("windows/amd64", "windows(10.0.17763)/amd64", True),
        ("windows(10.0.17763)/amd64", "windows/amd64", True),
        ("windows(10.0.17763.1)/amd64", "windows(10.0.17763.999)/amd64", True),
        ("windows(10.0.17763)/amd64", "windows(10.0.14393)/amd64", False),
        ("windows(10.0.17763)/amd64", "windows(10.0.20348)/amd64", False),
        ("windows(10.0.20348)/amd64", "windows(10.0.20348)/amd64", True),
        ("windows(10.0.20348)/amd64", "windows(10.0.17763)/amd64", False),
        ("windows(10.0.26100)/amd64", "windows(10.0.20348)/amd64", True),
        ("windows(10.0.26101)/amd64", "windows(10.0.20348)/amd64", False),
        ("windows(10.0.26100)/amd64", "windows(6.0.26100)/amd64", False),
        ("windows(10.0.26100)/amd64", "windows(x)/amd64", False),
        ("windows/amd64", "windows(10.0.17763+win32k)/amd64", True),
        ("windows/amd64", "windows(+other)/amd64", False),
        ("linux(1)/amd64", "linux(2)/amd64", True),
        ("linux/amd64", "linux(+erofs)/amd64", False),
        ("linux(+erofs)/amd64", "linux/amd64", True),
    ],
)
def test_windows_builds_and_features_decide_what_runs(host: str, image: str, runs: bool) -> None:
    assert Platform.parse(host).matches(Platform.parse(image)) is runs


def test_a_platform_from_a_document_is_normalised() -> None:
    document = {
        "os": "Windows",
        "architecture": "x86_64",
        "variant": "",
        "os.version": "10.0.20348.1",
        "os.features": ["win32k"],
    }
    platform = Platform.from_document(document)
    assert platform == Platform("windows", "amd64", None, "10.0.20348.1", ("win32k",))
    assert str(platform) == "windows(10.0.20348.1+win32k)/amd64"
    for wrong in ({"os": 1}, {"variant": ["v1"]}, {"os.features": "win32k"}, {"os.features": [1]}):
        with pytest.raises(InvalidManifest):
            Platform.from_document(document | wrong)


def test_without_a_wanted_build_all_windows_images_are_equally_close() -> None:
    wanted = Platform.parse("windows/amd64")
    builds = ("10.0.17763.1", "10.0.26100", "x", "")
    ranks = {wanted.closeness(Platform("windows", "amd64", None, build)) for build in builds}
    assert len(ranks) == 1


def test_a_platform_that_cannot_be_printed_is_refused() -> None:
    document = {"os": "darwin", "architecture": "arm64", "os.version": "macOS 13.5"}
    assert str(Platform.from_document(document)) == "darwin(macOS 13.5)/arm64"
    for wrong in ({"os": "a" * 129}, {"os": "\x1b[2J"}, {"os.features": ["\n"]}):
        with pytest.raises(InvalidManifest, match="malformed"):
            Platform.from_document(document | wrong)
    with pytest.raises(TooLarge, match="33 features"):
        Platform.from_document(document | {"os.features": ["x"] * 33})


PART = st.from_regex(r"[a-z0-9_.-]{1,8}", fullmatch=True)


@given(st.from_regex(r"[a-z]{1,5}(\([0-9.]{0,4}(\+[a-c]){0,2}\))?", fullmatch=True), PART, PART)
def test_a_written_platform_survives_a_round_trip(os: str, architecture: str, variant: str) -> None:
    platform = Platform.parse(f"{os}/{architecture}/{variant}")
    assert Platform.parse(str(platform)) == platform
    assert platform.closeness(platform) is not None
    assert "/" not in platform.directory
