"""The names of operating systems, architectures and variants, and their normal form.

Source: containerd/platforms, `Normalize`; Go's lists of known systems and architectures.
"""

_OS_ALIASES = {"macos": "darwin"}
_ARCHITECTURE_ALIASES = {
    "i386": ("386", None),
    "x86_64": ("amd64", None),
    "x86-64": ("amd64", None),
    "aarch64": ("arm64", None),
    "armhf": ("arm", "v7"),
    "armel": ("arm", "v6"),
}
# Names of machines in Linux (`uname -m`) that are not Go's names of architectures.
MACHINES = {
    "armv5l": "arm/v5",
    "armv6l": "arm/v6",
    "armv7l": "arm/v7",
    "armv8l": "arm/v8",
    "i686": "386",
    "loongarch64": "loong64",
}
OPERATING_SYSTEMS = frozenset(
    [
        "aix",
        "android",
        "darwin",
        "dragonfly",
        "freebsd",
        "hurd",
        "illumos",
        "ios",
        "js",
        "linux",
        "nacl",
        "netbsd",
        "openbsd",
        "plan9",
        "solaris",
        "wasip1",
        "windows",
        "zos",
    ]
)
ARCHITECTURES = frozenset(
    [
        "386",
        "amd64",
        "amd64p32",
        "arm",
        "armbe",
        "arm64",
        "arm64be",
        "loong64",
        "mips",
        "mipsle",
        "mips64",
        "mips64le",
        "mips64p32",
        "mips64p32le",
        "ppc",
        "ppc64",
        "ppc64le",
        "riscv",
        "riscv64",
        "s390",
        "s390x",
        "sparc",
        "sparc64",
        "wasm",
    ]
)


def normal_names(
    os: str, architecture: str, variant: str | None = None
) -> tuple[str, str, str | None]:
    """These names in normal form. v1 of amd64 and v8 of arm64 are written without a variant, arm
    always has one.
    """
    os = _OS_ALIASES.get(os.lower(), os.lower())
    architecture = architecture.lower()
    variant = variant.lower() if variant else None
    if architecture in _ARCHITECTURE_ALIASES:
        architecture, implied = _ARCHITECTURE_ALIASES[architecture]
        variant = implied or (None if architecture == "386" else variant)
    if architecture == "arm":
        variant = {None: "v7", "5": "v5", "6": "v6", "7": "v7", "8": "v8"}.get(variant, variant)
    elif (architecture, variant) in {("arm64", "8"), ("arm64", "v8"), ("arm64", "v8.0")}:
        variant = None
    elif (architecture, variant) in {("arm64", "9"), ("arm64", "9.0"), ("arm64", "v9.0")}:
        variant = "v9"
    elif (architecture, variant) == ("amd64", "v1"):
        variant = None
    return os, architecture, variant
