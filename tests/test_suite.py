"""What the tests themselves stand on: each is blamed for its own faults, wherever they run."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

LEAKS = {
    "socket": "import socket\nself.kept = socket.socket()",
    "file": "self.kept = open(__file__)",
    "loop": "import asyncio\nself.kept = asyncio.new_event_loop()",
}


def run_pytest(*arguments: object, sigint: signal.Handlers = signal.SIG_DFL) -> str:
    """What pytest says, in a process of its own; sigint: what SIGINT does there at first."""
    before = signal.signal(signal.SIGINT, sigint)
    try:
        child = subprocess.Popen(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *map(str, arguments)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
    finally:
        signal.signal(signal.SIGINT, before)
    with child:
        told, _ = child.communicate(timeout=100)
    return told


@pytest.mark.slow
@pytest.mark.parametrize("kind", LEAKS)
def test_who_leaks_is_blamed(tmp_path: Path, kind: str) -> None:
    """What a test leaves open, in a cycle that only the collector ends, fails that test, and not
    the one that runs when it is collected."""
    body = LEAKS[kind].replace("\n", "\n    ")
    (tmp_path / "test_leak.py").write_text(
        "import gc\nfrom tests.support.leaks import leaks_are_this_tests\n"
        "def test_before(): pass\n"
        "def test_leaks():\n"
        "    class Cycle: pass\n"
        f"    self = Cycle(); self.itself = self\n    {body}\n"
        "def test_behind(): gc.collect()\n"
    )
    told = run_pytest("-c", ROOT / "pyproject.toml", "--rootdir", tmp_path, tmp_path)
    assert "3 passed, 1 error" in told
    assert "ERROR at teardown of test_leaks" in told


@pytest.mark.slow
def test_an_ignored_sigint_is_not_inherited() -> None:
    """Where SIGINT is ignored, as in the background of a shell, a test that sends it still ends."""
    told = run_pytest("tests/lllm/cli/test_cli.py::test_tail_follows", sigint=signal.SIG_IGN)
    assert " passed" in told
    assert "failed" not in told


def test_every_test_has_a_limit(pytestconfig: pytest.Config) -> None:
    """A test that hangs is ended, and said to be the one that hung."""
    assert float(pytestconfig.getini("timeout")) > 0
