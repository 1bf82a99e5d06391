"""Refuses to keep a key or a checkpoint inside or beside the store that it is to vouch for."""

from __future__ import annotations

import os
from pathlib import Path

from lllm.events.errors import AuditError


def refuse_beside_store(path: Path, store: Path | None, what: str) -> None:
    """Refuse a path inside a store, or in the folder that contains the store.

    Whoever can change the store could change what is kept there, too.

    Args:
        path: The path where something is to be kept.
        store: The path of the store's file or folder; None for a store on a server.
        what: The subject of the error's sentence, for example "The private key".

    Raises:
        AuditError: The path is in the store, or beside it.
    """
    if store is None:
        return
    place, home = Path(os.path.realpath(path)).parent, Path(os.path.realpath(store))
    if place == home.parent or home == place or home in place.parents:
        raise AuditError(
            f"{what} does not belong beside the store {store}: whoever can change the store can "
            f"change what stands there. Give a place in another folder, best on another machine; "
            f"{path} is none."
        )
