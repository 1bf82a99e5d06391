"""Asks the servers whether an append is on the disk before it is acknowledged.

A client can't see that (`sync_interval: always` in the configuration of a server), but the
monitoring address of each server tells (https://docs.nats.io/running-a-nats-service/nats_admin/monitoring).
"""

from __future__ import annotations

from collections.abc import Sequence
from urllib.error import URLError
from urllib.request import urlopen

import msgspec

_SECONDS = 2.0  # for an answer of one server
_LONGEST = 1 << 20  # bytes of an answer


class _Config(msgspec.Struct, frozen=True):
    sync_always: bool = False


class _Report(msgspec.Struct, frozen=True):
    config: _Config = _Config()


def durability_of(monitors: Sequence[str], *, declared: bool) -> str | None:
    """Find out what an append survives.

    Args:
        monitors: The monitoring addresses of all servers, as "http://one:8222".
        declared: True if the user says that all servers have `sync_interval: always`; it counts
            where no monitoring address is known.

    Returns:
        "power" if every server writes to the disk first; "process" if one does not; None if it is
        not known.
    """
    if not monitors:
        return "power" if declared else None
    found = [_syncs_always(address) for address in monitors]
    if False in found:
        return "process"
    return None if None in found else "power"


def _syncs_always(address: str) -> bool | None:
    url = f"{address.rstrip('/')}/jsz?config=1"
    try:
        with urlopen(url, timeout=_SECONDS) as answer:
            return msgspec.json.decode(answer.read(_LONGEST), type=_Report).config.sync_always
    except (URLError, OSError, ValueError, msgspec.DecodeError):
        return None
