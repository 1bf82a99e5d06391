"""What the system refuses (one more open file) is an error of ours that says what to do."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

# Runs every operation with so many descriptors free, and prints what comes of each.
_SCRIPT = """
import gc, itertools, os, resource, sys, warnings
from pathlib import Path
from lllm import LocalFileBackend, LogStore, SQLiteBackend
from lllm.doctor.examine import examine
from lllm.events.errors import LllmError
from lllm.events.integrity.verify import verify
from tests.support.echo import echo

warnings.simplefilter("ignore")
folder, kind, free = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
backend = {"sqlite": SQLiteBackend, "jsonl": LocalFileBackend}[kind]
path, numbers = folder / "runs", itertools.count()
operations = {
    "list": lambda: store.list_sessions(),
    "load": lambda: store.load_session(session),
    "find": lambda: store.find_id(session),
    "events": lambda: list(store.events(session)),
    "export": lambda: store.export_session(session, format="jsonl"),
    "cost": lambda: store.export_cost_summary(),
    "lag": lambda: store.lag,
    "tag": lambda: store.tag(session, {"a": "c"}),
    "save_error": lambda: store.save_error(ValueError()),
    "call": lambda: echo(store)("again"),
    "follow": lambda: next(store.follow(after=0)),
    "rebuild": lambda: store.rebuild(),
    "check": lambda: store.rebuild(check=True),
    "verify": lambda: verify(store.backend),
    "doctor": lambda: examine(store),
    "backup": lambda: store.backup(folder / f"copy{next(numbers)}"),
    "open": lambda: LogStore(backend(path)).close(),
    "open_read_only": lambda: LogStore(backend(path, read_only=True)).close(),
    "open_new": lambda: backend(folder / f"new{next(numbers)}").close(),
    "close": lambda: store.close(),
}
with LogStore(backend(path)) as store:
    echo(store)("task")
    session = store.list_sessions()[0].session_id
    for name, operation in operations.items():
        operation()  # so that what it imports is there
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
for name, operation in operations.items():
    store = LogStore(backend(path))
    gc.collect()
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, os.listdir("/dev/fd"))) + 20, hard))
    taken = []
    try:
        while True:
            taken.append(os.open(os.devnull, os.O_RDONLY))
    except OSError:
        pass
    for _ in range(free):
        os.close(taken.pop())
    try:
        operation()
        said = "done"
    except LllmError as error:
        said = f"refused: {error}"
    except BaseException as error:
        said = f"bare {type(error).__name__}: {error}"
    for descriptor in taken:
        os.close(descriptor)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    print(name, said, flush=True)
    store.close()
"""


@pytest.mark.slow
@pytest.mark.parametrize("free", [0, 1, 2, 3])
@pytest.mark.parametrize("kind", ["sqlite", "jsonl"])
def test_without_a_free_descriptor(kind: str, free: int, tmp_path: Path) -> None:
    """Each operation is done, or refused with one error that says what to do; and the store is as
    good as before when there are descriptors again."""
    ran = subprocess.run(
        [sys.executable, "-c", _SCRIPT, str(tmp_path), kind, str(free)],
        capture_output=True, text=True, timeout=100, check=False,
        env={**os.environ, "PYTHONPATH": os.getcwd()},
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    said = dict(line.split(" ", 1) for line in ran.stdout.splitlines())
    assert len(said) == 20
    assert [line for line in said.items() if line[1].startswith("bare")] == []
    if free == 0:
        assert "ulimit -n" in said["rebuild"]
        assert "ulimit -n" in said["open_new"]
