"""Tables that an earlier version of lllm made are brought up to date when the log is opened."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lllm import LogStore, LogTooNew, PostgresBackend
from lllm.events.backends.postgres import schema as tables
from lllm.testing.writers import batch, without_positions
from tests.lllm.store.test_erasure import is_sound, record
from tests.support.postgres import new_schema, server

pytestmark = pytest.mark.slow

_FORMAT_1 = Path(__file__).parents[3] / "golden" / "postgres-format-1.sql"
_APPEND = """SELECT "{schema}".append(
    ARRAY['{stream}'], ARRAY[{seq}]::bigint[], ARRAY[{time}]::bigint[], ARRAY['{type}'],
    ARRAY[{version}]::bigint[], ARRAY[decode('{digest}', 'hex')], ARRAY[decode('{data}', 'hex')]
)"""


def test_a_log_of_the_first_format(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many open it at once, while it is written: each event is there once, and it can be erased
    from. The version that made it then says that it is too old."""
    schema = new_schema()
    server().run(_FORMAT_1.read_text().replace("an_earlier_log", schema))
    before = batch("earlier", 0)
    for one in before:
        server().run(
            _APPEND.format(
                schema=schema, stream=one.stream, seq=one.seq, time=one.time, type=one.type,
                version=one.version, digest=one.digest.hex(), data=one.data.hex(),
            )
        )  # fmt: skip
    together = threading.Barrier(6)

    def write(number: int) -> None:
        log = PostgresBackend(server().url(schema))
        together.wait()
        for more in range(3):
            log.append(batch(f"w{number}", more))
        log.close()

    with ThreadPoolExecutor(6) as threads:
        list(threads.map(write, range(6)))
    log = PostgresBackend(server().url(schema))
    assert without_positions(log.read(stream="earlier")) == before
    for number in range(6):
        expected = [one for more in range(3) for one in batch(f"w{number}", more)]
        assert without_positions(log.read(stream=f"w{number}")) == expected
    assert len(list(log.read())) == len(before) + sum(
        len(batch("w", more)) for _ in range(6) for more in range(3)
    )
    log.close()
    with LogStore.open(server().url(schema)) as store:
        gone = record(store, "a text")
        assert store.erase_session(gone, reason="asked to").sessions[0] == gone
        assert store.vacuum()
        assert is_sound(store)
    monkeypatch.setattr(tables, "NEWEST_FORMAT", 1)
    with pytest.raises(LogTooNew, match=r"format 2, written by a newer lllm.*Install the newer"):
        PostgresBackend(server().url(schema)).head()


def test_a_partitioned_log_that_is_opened_without_a_word() -> None:
    """Its partitions stay as they are, though the URL does not name them."""
    schema = new_schema()
    quoted = f'"{schema}"'
    server().run(
        tables.ddl(schema, "month")
        + f"DROP TABLE {quoted}.archived_leaves; DROP FUNCTION {quoted}.remove_events;"
    )
    log = PostgresBackend(server().url(schema))
    log.append(batch("s", 0))
    assert without_positions(log.read()) == batch("s", 0)
    log.close()
    PostgresBackend(server().url(schema), partition_by="month").head()
