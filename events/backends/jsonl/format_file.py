"""Reads and writes log.json, which names the format of a JSONL log."""

from __future__ import annotations

import json
from pathlib import Path

from lllm.events.backends.jsonl.segments import segments_of
from lllm.events.errors import LogError, LogTooNew
from lllm.events.files.own_files import make_new, read_own, sync, sync_folder

FORMAT = 1
_NAME = "log.json"


def has_format(folder: Path) -> bool:
    """True if a folder contains a log in a format that this version supports.

    Args:
        folder: The folder to look at.

    Returns:
        False if there is no log.json.

    Raises:
        LogError: log.json does not contain a format number.
        LogTooNew: A newer lllm made the log.
    """
    marker = folder / _NAME
    try:
        found = json.loads(read_own(marker))["format"]
    except FileNotFoundError:
        return False
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise LogError(
            f'{marker} does not say the format of the log, as in {{"format": {FORMAT}}}. '
            "Restore it from a backup."
        ) from error
    if not isinstance(found, int) or found > FORMAT:
        raise LogTooNew(
            f"{folder} has format {found}; this lllm knows formats up to {FORMAT}. "
            "Upgrade lllm to open it."
        )
    return True


def write_format(folder: Path, *, mode: int, durable: bool) -> None:
    """Write log.json into a folder, which makes it a log.

    Args:
        folder: The folder that becomes a log.
        mode: The permissions of log.json, as 0o600.
        durable: True to wait until the file is on the disk.

    Raises:
        LogError: The folder contains events already.
        OSError: The file can't be written.
    """
    if segments_of(folder):
        raise LogError(
            f"{folder} holds a log, but {_NAME}, which says its format, is missing. "
            "Restore it from a backup."
        )
    draft = folder / f"{_NAME}.new"
    with make_new(draft, mode=mode) as file:
        file.write(b'{"format": %d}\n' % FORMAT)
        if durable:
            sync(file)
    draft.replace(folder / _NAME)
    if durable:
        sync_folder(folder)
