"""Checks that installed SDKs have a supported version; pyproject.toml has the same ranges.

Each range begins with the oldest tested version and ends before the next major version, which may
change what lllm relies on. The newest tested version is in constraints.txt.
"""

from __future__ import annotations

import importlib.util
import re
import sys
from functools import cache

from lllm.events.concurrency.late_imports import importing
from lllm.events.errors import MissingExtra
from lllm.version import __version__

# The first supported version, and the first one that is not supported any more. OpenAI's SDK reads
# OPENAI_CUSTOM_HEADERS, which `lllm.invokers.openai` relies on, since version 2.34.
SUPPORTED = {"openai": ("2.34", "4"), "anthropic": ("2.0", "3"), "litellm": ("1.100", "2")}
# SDKs that are recorded and that no invoker uses, so no extra installs them; tests/frameworks has
# the tested versions.
RECORDED = {"google-genai": ("2.34", "4")}


def require(sdk: str) -> None:
    """Check that an SDK is installed in a supported version.

    Args:
        sdk: A key of `SUPPORTED`; the extra that installs the SDK has the same name.

    Raises:
        MissingExtra: The SDK is not installed, or its version is out of the range. An unknown
            version is accepted.
    """
    if importlib.util.find_spec(sdk) is None:
        raise MissingExtra(
            f'The SDK {sdk!r} is not installed. It is in an extra: pip install "lllm[{sdk}]"'
        )
    require_supported(sdk)


def require_supported(sdk: str) -> None:
    """Check the version of an SDK that is installed.

    Args:
        sdk: A key of `SUPPORTED` or of `RECORDED`.

    Raises:
        MissingExtra: The version is out of the range. An unknown version is accepted.
    """
    first, beyond = (SUPPORTED | RECORDED)[sdk]
    installed = _installed(sdk)
    numbers = _numbers(installed)
    if numbers and not _numbers(first) <= numbers < _numbers(beyond):
        wanted = f"{sdk}>={first},<{beyond}"
        raise MissingExtra(
            f"{sdk} {installed} is installed, and lllm {__version__} supports {wanted}. Install a "
            f'version that it supports: pip install "{wanted}"'
        )


def _installed(sdk: str) -> str:
    told = getattr(sys.modules.get(sdk), "__version__", None)  # LiteLLM has none
    return told if isinstance(told, str) else _distributed(sdk)


@cache
def _distributed(sdk: str) -> str:
    with importing():
        from importlib import metadata  # importing it takes as long as `import lllm`

    try:
        return metadata.version(sdk)
    except metadata.PackageNotFoundError:  # a copy without its metadata
        return ""


def _numbers(version: str) -> tuple[int, ...]:
    """Parse the release numbers of a version; () if there are none. "2.0.0rc1" counts as 2.0.0."""
    release = re.match(r"(?:\d+!)?(\d+(?:\.\d+)*)", version)
    return tuple(map(int, release[1].split("."))) if release else ()
