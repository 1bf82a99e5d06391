"""Which versions of the SDKs are supported, and what is said of others."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import anthropic
import openai
import pytest

from lllm import LogStore, MissingExtra, NoOpBackend, capture
from lllm.invokers.anthropic import AnthropicInvoker
from lllm.invokers.openai import OpenAIInvoker
from lllm.invokers.sdk import versions as sdk_versions
from lllm.invokers.sdk.versions import SUPPORTED, require_supported
from tests.support import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_pip_is_told_the_same() -> None:
    """The extras have the ranges that the errors name."""
    extras = PROJECT["optional-dependencies"]
    for sdk, (first, beyond) in SUPPORTED.items():
        assert extras[sdk] == [f"{sdk}>={first},<{beyond}"]


def test_the_tests_run_on_supported_versions() -> None:
    """The lock is within the ranges, has one version of each package for each Python, and says how
    it was made, with no place that is only on somebody's machine."""
    lock = (ROOT / "constraints.txt").read_text()
    locked = re.findall(r"^([a-z0-9-]+)==(\S+)(?: ; (.+))?$", lock, re.M)
    for sdk in SUPPORTED:
        require_supported(sdk)
        assert sdk in {name for name, _, _ in locked}
    plain = [(name, marker) for name, _, marker in locked]
    assert len(set(plain)) == len(plain) > 50
    assert "uv pip compile --universal --python-version 3.11" in lock
    assert not re.search(
        r"https?:|file:|index|/work|/home|/root", lock.replace("emit-index-url", "")
    )


@pytest.mark.parametrize(
    ("sdk", "installed", "told"),
    [
        (openai, "1.99.9", "openai 1.99.9 is installed"),
        (openai, "2.33.0", 'pip install "openai>=2.34,<4"'),
        (openai, "4.0.0rc1", "openai>=2.34,<4"),
        (openai, "10.1", "openai 10.1 is installed"),
        (anthropic, "0.125.0", 'pip install "anthropic>=2.0,<3"'),
        (anthropic, "3.0.0", "anthropic 3.0.0 is installed"),
    ],
)
def test_other_versions_are_refused(
    monkeypatch: pytest.MonkeyPatch, sdk: object, installed: str, told: str
) -> None:
    """The error says what is installed, what is supported and what to do, from the invoker and from
    capture; a client of it stays as it was."""
    monkeypatch.setattr(sdk, "__version__", installed)
    client = openai.OpenAI(api_key="k") if sdk is openai else anthropic.Anthropic(api_key="k")
    before = dict(vars(client))
    make: Callable[[], object] = OpenAIInvoker if sdk is openai else AnthropicInvoker
    with client, pytest.raises(MissingExtra, match=re.escape(told)):
        capture(client, log_store=LogStore(NoOpBackend()))
    assert vars(client) == before
    with pytest.raises(MissingExtra, match=re.escape(told)):
        make()


@pytest.mark.parametrize("installed", ["2.34.0", "2.34", "3.57.0", "3.99.99.post1", "", "unknown"])
def test_supported_versions_pass(monkeypatch: pytest.MonkeyPatch, installed: str) -> None:
    """So does one that can't be told: a copy without its metadata may be any."""
    monkeypatch.setattr(openai, "__version__", installed)
    require_supported("openai")


@pytest.mark.parametrize(
    ("installed", "refused"), [("1.99.4", True), ("1.999.9", False), ("2.0.0", True)]
)
def test_the_version_of_one_that_does_not_tell(
    tmp_path: Path, installed: str, refused: bool
) -> None:
    """LiteLLM does not say its version: what pip wrote beside it does."""
    (tmp_path / "litellm").mkdir()
    (tmp_path / "litellm" / "__init__.py").touch()
    beside = tmp_path / f"litellm-{installed}.dist-info"
    beside.mkdir()
    (beside / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: litellm\nVersion: {installed}\n"
    )
    code = "from lllm.invokers.litellm import LiteLLMInvoker; LiteLLMInvoker()"
    path = os.pathsep.join([str(tmp_path), *sys.path])
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, timeout=100,
    )  # fmt: skip
    assert (done.returncode != 0) == refused
    assert (f"litellm {installed} is installed" in done.stderr) == refused
    assert ('pip install "litellm>=1.100,<2"' in done.stderr) == refused


def test_a_copy_without_metadata_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    """What pip knows nothing of has no version."""
    assert sdk_versions._distributed("no-such-package-at-all") == ""
    monkeypatch.delattr(openai, "__version__")
    require_supported("openai")
