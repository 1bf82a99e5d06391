"""Reads lllm.toml: a package's name, the folders of its tactics, and its dependencies.

    [package]
    name = "my_project"
    version = "1.0.0"

    [tactics]
    paths = ["tactics/", "more/ under v2"]

    [dependencies]
    packages = ["../shared_pkg as shared"]

Paths are relative to the folder of the file, which is the root of the package. `under` and `as`
define names by which tactics can be found; sessions are recorded under the package's own name.
"""

from __future__ import annotations

import re
import tomllib
from functools import cache
from typing import TYPE_CHECKING, Annotated

import msgspec

from lllm.events.concurrency.decoders import warm_msgspec
from lllm.events.errors import PackageError

if TYPE_CHECKING:
    from pathlib import Path

FILE_NAME = "lllm.toml"

# No colon and no slash, because they separate the parts of a query: `package:under/tactic`.
_WORD = r"[A-Za-z0-9_][A-Za-z0-9_.-]*"
_FOLDER = re.compile(rf"(?P<path>.+?)(?:\s+under\s+(?P<name>{_WORD}(?:/{_WORD})*)/?)?\s*")
_DEPENDENCY = re.compile(rf"(?P<path>.+?)(?:\s+as\s+(?P<name>{_WORD}))?\s*")

# Folders of installed libraries, which are often below the project but not part of it.
_FOREIGN = ("site-packages", "dist-packages")


class Folder(msgspec.Struct, frozen=True):
    """A folder of tactics that an lllm.toml names."""

    entry: str
    """The entry in the file: `folder/ under name`."""
    path: Path
    """The path of the folder."""
    under: str
    """A name by which its tactics can be found; "" for none."""


class Dependency(msgspec.Struct, frozen=True):
    """Another package whose tactics a package uses."""

    entry: str
    """The entry in the file: `path as name`."""
    root: Path
    """The path of the package's folder."""
    alias: str
    """The name of the dependency in this package; "" for its own name."""


class Manifest(msgspec.Struct, frozen=True):
    """The content of an lllm.toml."""

    root: Path
    """The path of the folder with the file."""
    name: str
    """The package's name, the first part of its tactics' stable paths."""
    version: str
    """The package's version; "" for none."""
    folders: tuple[Folder, ...]
    """The folders with its tactics."""
    dependencies: tuple[Dependency, ...]
    """The packages whose tactics it uses."""

    @property
    def file(self) -> Path:
        """The path of the lllm.toml."""
        return self.root / FILE_NAME


class _PackageTable(msgspec.Struct, forbid_unknown_fields=True):
    name: Annotated[str, msgspec.Meta(pattern=rf"\A{_WORD}\Z")]
    version: str = ""


class _TacticsTable(msgspec.Struct, forbid_unknown_fields=True):
    paths: tuple[str, ...] = ()


class _DependenciesTable(msgspec.Struct, forbid_unknown_fields=True):
    packages: tuple[str, ...] = ()


@warm_msgspec
class _File(msgspec.Struct, forbid_unknown_fields=True):
    package: _PackageTable
    tactics: _TacticsTable = msgspec.field(default_factory=_TacticsTable)
    dependencies: _DependenciesTable = msgspec.field(default_factory=_DependenciesTable)


def read_manifest(root: Path) -> Manifest:
    """Read the lllm.toml of a folder.

    Args:
        root: The path of the folder.

    Returns:
        The content of the file.

    Raises:
        PackageError: The file is missing or wrong; the message names the file and the key.
    """
    file = root / FILE_NAME
    try:
        found = msgspec.convert(tomllib.loads(file.read_text("utf-8")), _File)
    except OSError as error:
        raise PackageError(f"{file} can't be read: {error.strerror}.") from error
    except msgspec.ValidationError as error:  # also a ValueError, so it is caught first
        raise PackageError(f"{file} is wrong: {error} ($ is the whole file).") from error
    except (ValueError, RecursionError) as error:  # TOMLDecodeError and UnicodeDecodeError
        raise PackageError(f"{file} is not valid TOML: {error}.") from error
    return Manifest(
        root=root,
        name=found.package.name,
        version=found.package.version,
        folders=tuple(_folder(entry, root) for entry in found.tactics.paths),
        dependencies=_dependencies(found.dependencies.packages, root),
    )


def _folder(entry: str, root: Path) -> Folder:
    path, under = _split(entry, _FOLDER, "[tactics] paths", "folder/ under name", root)
    return Folder(entry, path, under)


def _dependencies(entries: tuple[str, ...], root: Path) -> tuple[Dependency, ...]:
    found: dict[str, Dependency] = {}
    for entry in entries:
        path, alias = _split(entry, _DEPENDENCY, "[dependencies] packages", "path as name", root)
        other = found.setdefault(alias or entry, Dependency(entry, path, alias))
        if other.root != path:
            raise PackageError(
                f"{root / FILE_NAME}: [dependencies] packages gives the name {alias!r} twice, in "
                f"{other.entry!r} and {entry!r}."
            )
    return tuple(found.values())


def _split(
    entry: str, pattern: re.Pattern[str], key: str, form: str, root: Path
) -> tuple[Path, str]:
    match = pattern.fullmatch(entry.strip())
    if match is None or re.search(r"\s(under|as)(\s|\Z)", match["path"]):
        raise PackageError(f"{root / FILE_NAME}: {key} has {entry!r}, which is not {form!r}.")
    try:
        return (root / match["path"]).resolve(), match["name"] or ""
    # for a NUL in the path, or a cycle of links
    except (ValueError, OSError, RuntimeError) as error:
        raise PackageError(f"{root / FILE_NAME}: {key} has {entry!r}: {error}.") from error


def nearest_manifest(file: Path) -> Manifest | None:
    """Find the lllm.toml in the nearest folder above a file.

    Each folder is read only once, until `forget_manifests` is called.

    Args:
        file: The path of the file.

    Returns:
        The content of the lllm.toml; None if there is none up to the root of the file system, or up
        to the folder that libraries are installed in.

    Raises:
        PackageError: The lllm.toml is not valid.
    """
    return _manifest_above(file.parent)


@cache
def _manifest_above(folder: Path) -> Manifest | None:
    if folder.name in _FOREIGN:
        return None
    if (folder / FILE_NAME).is_file():
        return read_manifest(folder)
    return None if folder.parent == folder else _manifest_above(folder.parent)


def forget_manifests() -> None:
    """Clear the cache of `nearest_manifest`."""
    _manifest_above.cache_clear()
