"""The libraries that lllm is measured beside, each in a virtual environment of its own.

Their requirements conflict (one of them is even imported as `lllm`), so none is installed beside
another. Versions are pinned; an environment is made once and used again while they stay.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import msgspec

_SECONDS = 1_200.0  # for one installation; the largest brings a hundred packages


class Peer(msgspec.Struct, frozen=True):
    """A library: the distribution's name and version, and the file of its worker.

    beside: the requirements of what the worker needs as well.
    """

    name: str
    version: str
    worker: str
    beside: tuple[str, ...] = ()


PEERS = (
    Peer("lllm-core", "0.1.1.1", "lllm_core_worker.py"),
    Peer("eventsourcing", "9.5.6", "eventsourcing_worker.py"),
    Peer("opentelemetry-sdk", "1.45.2", "opentelemetry_worker.py"),
    Peer("mlflow", "3.17.2", "mlflow_worker.py"),
    Peer("llm", "0.36", "llm_worker.py"),
    Peer("structlog", "26.1.0", "structlog_worker.py"),
)
_OPENAI = ("openai==3.57.0",)
CASSETTES = (
    Peer("vcrpy", "9.4.2", "cassette_worker.py", _OPENAI),
    Peer("cassetter", "0.16.1", "cassette_worker.py", _OPENAI),
)


class NotInstalled(Exception):
    """A peer that can't be had here; the message says why."""


def interpreter(peer: Peer, venvs: Path) -> Path:
    """The Python that has the peer installed; makes its environment where there is none.

    venvs: the folder of the environments, made where it is missing. Raises NotInstalled.
    """
    requirements = [f"{peer.name}=={peer.version}", *peer.beside]
    made_for = hashlib.sha256(f"{' '.join(requirements)} {sys.version}".encode()).hexdigest()[:8]
    place = venvs / f"{peer.name}-{peer.version}-{made_for}"
    python = place / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    complete = place / "complete"
    if not complete.exists():
        venvs.mkdir(parents=True, exist_ok=True)
        _run([sys.executable, "-m", "venv", "--clear", str(place)])
        _run([str(python), "-m", "pip", "install", "--quiet", "--no-input", *requirements])
        complete.touch()
    return python


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_SECONDS
        )
    except subprocess.TimeoutExpired:
        raise NotInstalled(f"not installed in {_SECONDS / 60:.0f} minutes") from None
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        errors = [line for line in lines if line.startswith("ERROR")] or lines or ["no reason told"]
        raise NotInstalled(errors[-1])
