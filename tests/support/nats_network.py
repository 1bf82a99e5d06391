"""A network of its own for NATS servers, whose cables can be pulled, and disks that can be full.

It is made of Linux namespaces: the process that uses it must run in a network and a mount
namespace of its own, which `inside` arranges. Nothing of the machine's own network is changed.
Each server has two cables: one to the clients, one to the other servers.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from tests.support.waiting import HANG

_NAMESPACES = ("unshare", "--map-root-user", "--net", "--mount")
_MARK = "LLLM_TEST_NAMESPACE"


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, timeout=HANG)


def possible() -> bool:
    """True if this machine lets a process have namespaces and cables of its own."""
    try:
        _run(*_NAMESPACES, "ip", "link", "add", "one", "type", "veth", "peer", "name", "two")
    except (OSError, subprocess.SubprocessError):
        return False
    return True


def is_inside() -> bool:
    """True if this process was started by `inside`."""
    return os.environ.get(_MARK) == "yes"


def inside(command: Sequence[str]) -> Sequence[str]:
    """The command that runs another one in namespaces of its own.

    Args:
        command: The program of Python's arguments, as ["-m", "benchmarks"].
    """
    return ["env", f"{_MARK}=yes", *_NAMESPACES, sys.executable, *command]


class Network:
    """Cables and disks of some servers.

    Args:
        size: How many servers.
        folder: The folder in which the server n keeps its files in the folder n.
        disk: The size of each server's disk, in MiB.
    """

    def __init__(self, size: int, folder: Path, disk: int) -> None:
        assert is_inside(), "this would change the machine's own network"
        self._folder = folder
        self._keepers: list[subprocess.Popen[bytes]] = []
        _run("ip", "link", "set", "lo", "up")
        for number, bridge in enumerate(("clients", "peers")):
            _run("ip", "link", "add", bridge, "type", "bridge")
            _run("ip", "address", "add", f"10.77.{number}.254/24", "dev", bridge)
            _run("ip", "link", "set", bridge, "up")
        for server in range(size):
            self._plug_in(server)
            (folder / str(server)).mkdir()
            _run("mount", "-t", "tmpfs", "-o", f"size={disk}m", "none", str(folder / str(server)))

    def _plug_in(self, server: int) -> None:
        # Keeps the namespace while the server is dead; ends with this process.
        keeper = subprocess.Popen(["unshare", "--net", "cat"], stdin=subprocess.PIPE)
        self._keepers.append(keeper)
        namespace = os.readlink("/proc/self/ns/net")
        while os.readlink(f"/proc/{keeper.pid}/ns/net") == namespace:
            assert keeper.poll() is None
        self._within(server, "ip", "link", "set", "lo", "up")
        for number, bridge in enumerate(("clients", "peers")):
            here, there = f"{bridge[0]}{server}", f"{bridge[0]}{server}-far"
            _run("ip", "link", "add", here, "type", "veth", "peer", "name", there)
            _run("ip", "link", "set", there, "netns", str(keeper.pid))
            _run("ip", "link", "set", here, "master", bridge)
            _run("ip", "link", "set", here, "up")
            address = f"10.77.{number}.{server + 1}/24"
            self._within(server, "ip", "address", "add", address, "dev", there)
            self._within(server, "ip", "link", "set", there, "up")

    def enter(self, server: int) -> Sequence[str]:
        """What stands before a command that is to run at a server's place."""
        return ["nsenter", f"--net=/proc/{self._keepers[server].pid}/ns/net"]

    def _within(self, server: int, *command: str) -> None:
        _run(*self.enter(server), *command)

    def addresses(self, server: int) -> tuple[str, str]:
        """The addresses of a server: for its clients, and for the other servers."""
        return f"10.77.0.{server + 1}", f"10.77.1.{server + 1}"

    def pull(self, server: int, *, clients: bool) -> None:
        """Pull a server's cable to the others, and with `clients` that to its clients, too."""
        self._switch(server, "down", clients=clients)

    def plug(self, server: int, *, clients: bool) -> None:
        """Undo `pull`."""
        self._switch(server, "up", clients=clients)

    def _switch(self, server: int, state: str, *, clients: bool) -> None:
        for cable in ("p", "c")[: 2 if clients else 1]:
            _run("ip", "link", "set", f"{cable}{server}", state)

    def fill(self, server: int) -> None:
        """Fill a server's disk to the last byte."""
        filler = os.open(self._folder / str(server) / "filler", os.O_WRONLY | os.O_CREAT)
        try:
            for amount in (1 << 20, 1 << 12):
                with suppress(OSError):  # there is no space left for this amount
                    while os.write(filler, b"\0" * amount) == amount:
                        pass
        finally:
            os.close(filler)

    def free(self, server: int) -> None:
        """Undo `fill`."""
        (self._folder / str(server) / "filler").unlink()

    def remove(self) -> None:
        """End the namespaces, and take the disks away."""
        for server, keeper in enumerate(self._keepers):
            _run("umount", "--lazy", str(self._folder / str(server)))
            assert keeper.stdin is not None
            keeper.stdin.close()
            keeper.wait(HANG)
        self._keepers.clear()
