"""Names the places of hits of a search as `lllm show` and the page of their session name them."""

from __future__ import annotations

from collections.abc import Sequence

from lllm.projections.database import RowsDatabase
from lllm.projections.queries.calls import step_names
from lllm.projections.queries.sessions import reading
from lllm.search.hit_places import hit_places
from lllm.search.hits import SearchHit
from lllm.store.log_store import LogStore, session_host


def names_of_places(store: LogStore, hits: Sequence[SearchHit]) -> dict[int, str]:
    """Name the places of hits.

    Args:
        store: The store that was searched.
        hits: The hits of a search.

    Returns:
        The names by the position of the hit, as "#4 writer · step 2, answer". A hit outside of any
        step is left out; see `hit_places`.
    """
    sessions = {hit.position: hit.session_id for hit in hits}
    places = hit_places(store.log, sessions)
    steps = {(sessions[position], place.request) for position, place in places.items()}

    def read(database: RowsDatabase) -> dict[tuple[str, int], str]:
        with reading(database) as connection:
            return step_names(connection, steps)

    names = session_host(store).reader.ask(read) if steps else {}
    return {
        position: f"{name}, {place.part}"
        for position, place in places.items()
        if (name := names.get((sessions[position], place.request))) is not None
    }
