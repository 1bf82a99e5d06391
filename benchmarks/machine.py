"""What the figures were measured on."""

from __future__ import annotations

import os
import platform
import sqlite3
import time
from pathlib import Path

import msgspec

from lllm import __version__


class Machine(msgspec.Struct, frozen=True):
    """A machine, and how busy it was with other things."""

    cpu: str
    cores: int
    system: str
    python: str
    sqlite: str
    lllm: str
    load_before: float
    date: str


def this_machine() -> Machine:
    """The one that this runs on, as it is now."""
    return Machine(
        cpu=_cpu(),
        cores=os.cpu_count() or 0,
        system=f"{platform.system()} {platform.release()}",
        python=f"{platform.python_implementation()} {platform.python_version()}",
        sqlite=sqlite3.sqlite_version,
        lllm=__version__,
        load_before=os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0,
        date=time.strftime("%Y-%m-%d"),
    )


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(": ")[2] for line in lines if "model name" in line), "unknown")


def described(machine: Machine) -> str:
    """In one line."""
    return (
        f"lllm {machine.lllm} on {machine.cpu}, {machine.cores} cores, {machine.system}; "
        f"{machine.python}, SQLite {machine.sqlite}; load before: {machine.load_before:.1f}"
    )
