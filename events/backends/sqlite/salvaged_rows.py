"""Recovers rows of a damaged SQLite log from its pages when SQLite itself can't read them.

All pages are copied into a temporary file and searched once. With a large log this takes a while,
and twice its disk space, so it is done only if a page can't be read.
"""

from __future__ import annotations

import logging
import shutil
import sqlite3
import tempfile
import threading
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import cast

from lllm.events.backends.sqlite.database import Database, Row
from lllm.events.backends.sqlite.rebuilt_file import copy_of, salvage
from lllm.events.backends.sqlite.schema import FORMAT, SCHEMA
from lllm.events.concurrency.fork_handlers import register_after_fork
from lllm.events.errors import LogUnavailable

_logger = logging.getLogger("lllm.store")


class SalvagedRows:
    """The rows recovered from the pages of a damaged database, by position.

    Args:
        path: The file of the database.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        # the folder of the temporary files
        self._remove: weakref.finalize[..., SalvagedRows] | None = None
        self._database: Database | None = None
        self._looked_upto = -1
        register_after_fork(self)

    def after_fork(self) -> None:
        """Forget the temporary files, which the parent removes."""
        self._lock = threading.Lock()
        if self._remove is not None:
            self._remove.detach()
        self._remove = self._database = None
        self._looked_upto = -1

    def query(self, sql: str, parameters: Sequence[object], *, upto: int) -> list[Row]:
        """Run a SELECT on the recovered rows; no rows if the pages can't be copied.

        Args:
            sql: The statement, in the form for the log's own table.
            parameters: The values for its placeholders; the first is the requested position.
            upto: The last position of the log. If the log has grown since the search, and the
                requested position is new, the pages are searched again.

        Returns:
            The rows.
        """
        asked = cast(int, parameters[0])
        with self._lock:
            if self._looked_upto < min(asked, upto):
                self._look(upto)
            database = self._database
        return [] if database is None else database.query(sql, parameters)

    def all_of(self) -> Database:
        """Return a database with all recovered rows of the log.

        Returns:
            The database; it belongs to this object, which closes it.

        Raises:
            LogUnavailable: The pages can't be copied.
        """
        with self._lock:
            if self._database is None:
                self._open(0)
            return cast(Database, self._database)

    def _look(self, upto: int) -> None:
        self._looked_upto = upto
        try:
            self._open(upto)
        except LogUnavailable as error:
            _logger.error("%s is damaged, and its pages can't be looked through: %s",
                          self._path, error)  # fmt: skip

    def _open(self, head: int) -> None:
        self._drop()
        folder = Path(tempfile.mkdtemp(prefix="lllm-salvaged-"))
        self._remove = weakref.finalize(self, _remove_folder, folder)
        try:
            copy, target = copy_of(self._path, folder), folder / "log"
            found = salvage(copy, target, head=head)
            for file in (copy, Path(f"{copy}-wal")):
                file.unlink(missing_ok=True)
            self._database = Database(target, lock=None, version=FORMAT, schema=SCHEMA)
        except (OSError, sqlite3.Error) as error:
            self._drop()
            if isinstance(error, LogUnavailable):
                raise
            raise LogUnavailable(f"{self._path}: {error}.") from error
        except BaseException:
            self._drop()
            raise
        if found.events:
            _logger.warning(
                "%s is damaged: all of its pages were looked through for events. `lllm repair` "
                "makes a whole file of them.",
                self._path,
            )

    def _drop(self) -> None:
        database, self._database = self._database, None
        remove, self._remove = self._remove, None
        if database is not None:
            database.close()
        if remove is not None:
            remove()

    def close(self) -> None:
        """Remove the temporary file."""
        with self._lock:
            self._drop()


def _remove_folder(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
