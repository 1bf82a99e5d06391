"""The worker's side of a comparison: `python -P serving.py WORKER.py`, with any library installed.

One JSON line a question and an answer, over standard input and output. The worker's file defines a
class `Worker(folder, work)` with

    operations: name -> a function that prepares one run, and returns what is to be timed
    stored():   what -> how many can be found in its store, and how many it was given

This module and the workers import nothing but the standard library and the one library that is
measured, since each runs in an environment of its own.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sqlite3
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

Prepare = Callable[[], Callable[[], object]]


class Worker(Protocol):
    """What a worker's file defines."""

    operations: Mapping[str, Prepare]

    def stored(self) -> Mapping[str, tuple[int, int]]: ...


def serve(source: Path) -> None:
    """Answer until the questions end."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # libraries that print must not speak here

    def answer(value: object) -> None:
        answers.write(json.dumps(value) + "\n")
        answers.flush()

    try:
        opening = json.loads(sys.stdin.readline())
        worker = _loaded(source, Path(opening["folder"]), opening["work"])
    except Exception as error:
        answer({"failed": _told(error)})
        return
    answer({"operations": list(worker.operations), "version": version(opening["package"])})
    for line in sys.stdin:
        try:
            answer(_answered(worker, json.loads(line)))
        except Exception as error:
            answer({"failed": _told(error)})


def _answered(worker: Worker, question: dict[str, Any]) -> dict[str, object]:
    if "run" in question:
        prepare = worker.operations[question["run"]]
        return {"took": [_timed(prepare()) for _ in range(question["times"])]}
    if "rest" in question:
        _checkpoint(Path(question["rest"]))
        return {}
    return {"stored": dict(worker.stored())}


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _loaded(source: Path, folder: Path, work: dict[str, Any]) -> Worker:
    specification = importlib.util.spec_from_file_location(source.stem, source)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules[source.stem] = module  # where libraries look up the classes that it defines
    specification.loader.exec_module(module)
    worker: Worker = module.Worker(folder, work)
    return worker


def _timed(operation: Callable[[], object]) -> int:
    began = time.perf_counter_ns()
    operation()
    return time.perf_counter_ns() - began


def _checkpoint(folder: Path) -> None:
    """Empty the write-ahead logs of all databases in a folder, so that none fills in a round."""
    for log in (*folder.glob("*-wal"), *folder.glob("*/*-wal")):
        with closing(sqlite3.connect(log.with_name(log.name.removesuffix("-wal")))) as database:
            database.execute("PRAGMA wal_checkpoint(TRUNCATE)")


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
