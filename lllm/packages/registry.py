"""The registry of tactics: gives them stable paths, and finds them by name.

A tactic's stable path is `{package}::{name}`: the package's name from the nearest lllm.toml above
the file that defines the class, and the class's own `name`. No folder, `under` or alias is in it,
so that what was logged is found again after all of them have changed. A class from a REPL or a
notebook, or from a file without an lllm.toml above it, has the bare name.

Every tactic class registers itself with `default_runtime` when it is defined. Defining it again in
the same file (a cell run twice, importlib.reload) replaces it. Two files of one package that define
one name are a mistake, because their sessions and costs could not be told apart: importing both
warns, since a running program should go on, and `load_package` refuses.
"""

from __future__ import annotations

import sys
import threading
import warnings
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import msgspec

from lllm.events.concurrency.fork_handlers import register_after_fork
from lllm.events.errors import ConfigError
from lllm.packages.manifest import forget_manifests, nearest_manifest

if TYPE_CHECKING:
    import types
    from collections.abc import Mapping

# Whether load_package runs the code that defines the classes: it refuses what is warned of here.
loading: ContextVar[bool] = ContextVar("lllm_loading", default=False)

_paths: WeakKeyDictionary[type, str] = WeakKeyDictionary()


def tactic_path(cls: type) -> str:
    """The stable path of a tactic, which identifies it in recorded sessions.

    Args:
        cls: The tactic's class.

    Returns:
        `{package}::{name}`, or the bare name where the class is in no package.

    Raises:
        ConfigError: The class has no name.
        PackageError: The lllm.toml above it is wrong: its sessions would be recorded under a name
            that nobody meant.
    """
    path = _paths.get(cls)
    if path is None:
        name, file = tactic_name(cls), file_of(cls)
        manifest = None if file is None else nearest_manifest(file)
        path = _paths[cls] = name if manifest is None else f"{manifest.name}::{name}"
    return path


def tactic_name(cls: type) -> str:
    """The short name of a tactic.

    Args:
        cls: The tactic's class.

    Returns:
        Its `name`.

    Raises:
        ConfigError: The class has none.
    """
    name = getattr(cls, "name", None)
    if not isinstance(name, str) or not name:
        raise ConfigError(
            f'The tactic {cls.__qualname__} has no name: give it one, `name = "..."`.'
        )
    return name


def forget_paths() -> None:
    """Clear the cache of `tactic_path`."""
    forget_manifests()
    _paths.clear()


def file_of(cls: type) -> Path | None:
    """The file that defines a class.

    Args:
        cls: The class.

    Returns:
        The file; None in a REPL or a notebook.
    """
    return file_of_module(sys.modules.get(cls.__module__))


def file_of_module(module: types.ModuleType | None) -> Path | None:
    """The file that a module was made from.

    Args:
        module: The module; None for one that is not there.

    Returns:
        The file; None where there was none.
    """
    # Not getattr: a module that is filled lazily may do anything when asked.
    file = getattr(module, "__dict__", {}).get("__file__")
    return Path(file).resolve() if isinstance(file, str) else None


class Package(msgspec.Struct, frozen=True):
    """A loaded package of tactics."""

    name: str
    """Its name, the first part of its tactics' stable paths."""
    version: str
    """Its version; "" for none."""
    root: Path
    """The folder with its lllm.toml."""
    tactics: Mapping[str, type]
    """The classes of its tactics by their short names."""
    aliases: Mapping[str, str]
    """The names of packages it builds on, by what it calls them."""


class _Registered(msgspec.Struct, frozen=True):
    cls: type
    file: Path | None


class Runtime:
    """A registry of tactics and packages, in which names are looked up. Threads may share it."""

    def __init__(self) -> None:
        self._lock = threading.RLock()  # a signal handler may call a tactic, too
        self._tactics: dict[str, _Registered] = {}
        self._packages: dict[Path, Package] = {}
        self._defined: dict[Path, dict[str, type]] = {}
        register_after_fork(self)

    def after_fork(self) -> None:
        """Make a new lock in a forked child: another thread may have held that of the parent."""
        self._lock = threading.RLock()

    @property
    def tactics(self) -> dict[str, type]:
        """The registered classes by their stable paths."""
        with self._lock:
            return {path: entry.cls for path, entry in self._tactics.items()}

    @property
    def packages(self) -> tuple[Package, ...]:
        """The loaded packages."""
        with self._lock:
            return tuple(self._packages.values())

    def register(self, cls: type) -> None:
        """Register a tactic under its stable path.

        One that only inherits its name is left out: it would take its parent's place. Warns where
        another file of the same package defines the same name; the later one counts.

        Args:
            cls: The tactic's class.

        Raises:
            ConfigError: The class has no name.
            PackageError: The lllm.toml above it is wrong.
        """
        path, file = tactic_path(cls), file_of(cls)
        if "name" not in vars(cls):
            return
        with self._lock:
            other = self._tactics.get(path)
            self._tactics[path] = _Registered(cls, file)
            if file is not None:
                self._defined.setdefault(file, {})[cls.__qualname__] = cls
        if not loading.get() and "::" in path and other and _both_exist(other.file, file):
            warnings.warn(
                f"{file} and {other.file} both define the tactic {path}; their sessions and costs "
                "are not told apart. Rename one, or define it with register=False.",
                UserWarning,
                stacklevel=3,
            )

    def find(self, name: str) -> type:
        """Find a tactic by its name.

        Args:
            name: In any form that `resolve` takes.

        Returns:
            The tactic's class.

        Raises:
            ConfigError: There is none of that name, or several; the message lists what there is.
        """
        path = self.resolve(name)
        tactics = self.tactics
        if path not in tactics:
            known = ", ".join(sorted(tactics)) or "none"
            raise ConfigError(f"There is no tactic {name!r}. Registered are: {known}.")
        return tactics[path]

    def resolve(self, query: str) -> str:
        """Find the stable path of a tactic by its name.

        `my_project::analyzer` is one already. In `my_project:v2/analyzer` and `shared:analyzer`
        the package is a name or an alias; the part before the last slash only says where the
        tactic was found once, and any will do. A bare `analyzer` is the one tactic of that name.

        Args:
            query: The name, in any of these forms.

        Returns:
            The stable path; `query` itself where it is not known, for it may stand in an old log.

        Raises:
            ConfigError: Several tactics or packages could be meant.
        """
        tactics = self.tactics
        if "::" in query or query in tactics:
            return query
        package, colon, rest = query.partition(":")
        if colon:
            name = self._package_called(package, tactics)
            return query if name is None else _path_within(name, rest, tactics)
        meant = sorted(path for path in tactics if path.partition("::")[2] == query)
        return _only_one(meant, query) or query

    def _package_called(self, name: str, tactics: Mapping[str, type]) -> str | None:
        packages = self.packages
        if any(package.name == name for package in packages):
            return name
        if any(path.startswith(f"{name}::") for path in tactics):
            return name
        aliased = {package.aliases[name] for package in packages if name in package.aliases}
        return _only_one(sorted(aliased), name)

    def defined_in(self, file: Path) -> list[type]:
        """The registered classes of a file, except those that are made inside functions.

        Args:
            file: The file.

        Returns:
            The classes, in the order of their definition.
        """
        with self._lock:
            found = self._defined.get(file, {})
            return [cls for name, cls in found.items() if "<locals>" not in name]

    def add(self, packages: Mapping[Path, Package]) -> None:
        """Register loaded packages and all their tactics.

        Args:
            packages: The packages by their roots.
        """
        with self._lock:
            self._packages.update(packages)
            for package in packages.values():
                for name, cls in package.tactics.items():
                    self._tactics[f"{package.name}::{name}"] = _Registered(cls, file_of(cls))


default_runtime = Runtime()


def _both_exist(one: Path | None, other: Path | None) -> bool:
    """True if two paths are different files, and not one that was moved."""
    return one is not None and other is not None and one != other and one.exists()


def _only_one(found: list[str], query: str) -> str | None:
    if len(found) > 1:
        raise ConfigError(f"{query!r} may be any of {', '.join(found)}: say which.")
    return found[0] if found else None


def _path_within(package: str, rest: str, tactics: Mapping[str, type]) -> str:
    prefix = f"{package}::"
    names = [path.removeprefix(prefix) for path in tactics if path.startswith(prefix)]
    fitting = [name for name in names if f"/{rest}".endswith(f"/{name}")]
    name = max(fitting, key=len, default=rest.rpartition("/")[2])
    return f"{package}::{name}"
