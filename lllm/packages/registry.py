"""The registry of tactics: gives them stable paths, and finds them by name.

A tactic's stable path is `{package}::{name}`: the package's name from the nearest lllm.toml above
the file that defines the class, and the class's own `name`. It contains no folder, `under` or
alias, so recorded sessions are found again after any of these change. A class from a REPL or a
notebook, or from a file without an lllm.toml above it, has only its name.

Every tactic class registers itself with `default_runtime` when it is defined. A second definition
in the same file (a cell run twice, importlib.reload) replaces the first. If two files of one
package define the same name, their sessions and costs could not be told apart. A program that
imports both gets a warning, so that it keeps running; `load_package` refuses to load them.
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

# True while load_package runs the code of tactics: it refuses what otherwise only gives a warning.
loading: ContextVar[bool] = ContextVar("lllm_loading", default=False)

_paths: WeakKeyDictionary[type, str] = WeakKeyDictionary()


def tactic_path(cls: type) -> str:
    """Get the stable path of a tactic, which identifies it in recorded sessions.

    Args:
        cls: The class of the tactic.

    Returns:
        `{package}::{name}`, or only the name if the class is in no package.

    Raises:
        ConfigError: The class has no name.
        PackageError: The lllm.toml above it is not valid, so its package has no known name.
    """
    path = _paths.get(cls)
    if path is None:
        name, file = tactic_name(cls), file_of(cls)
        manifest = None if file is None else nearest_manifest(file)
        path = _paths[cls] = name if manifest is None else f"{manifest.name}::{name}"
    return path


def tactic_name(cls: type) -> str:
    """Get the short name of a tactic.

    Args:
        cls: The class of the tactic.

    Returns:
        The value of its attribute `name`.

    Raises:
        ConfigError: The class has no name.
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
    """Find the file that defines a class.

    Args:
        cls: Any class.

    Returns:
        The file; None if the class was defined in a REPL or a notebook.
    """
    return file_of_module(sys.modules.get(cls.__module__))


def file_of_module(module: types.ModuleType | None) -> Path | None:
    """Find the file that a module was loaded from.

    Args:
        module: The module; None if there is none.

    Returns:
        The file; None if the module has none.
    """
    # Not by getattr, because a lazy module may run any code when an attribute is read.
    file = getattr(module, "__dict__", {}).get("__file__")
    return Path(file).resolve() if isinstance(file, str) else None


class Package(msgspec.Struct, frozen=True):
    """A loaded package of tactics."""

    name: str
    """The package's name, the first part of its tactics' stable paths."""
    version: str
    """The package's version; "" for none."""
    root: Path
    """The path of the folder with its lllm.toml."""
    tactics: Mapping[str, type]
    """The classes of its tactics, by their short names."""
    aliases: Mapping[str, str]
    """The names of the packages that it uses, by its own names for them."""


class _Registered(msgspec.Struct, frozen=True):
    cls: type
    file: Path | None


class Runtime:
    """A registry of tactics and packages, which finds them by name. Threads may share it."""

    def __init__(self) -> None:
        self._lock = threading.RLock()  # reentrant: a signal handler may also call a tactic
        self._tactics: dict[str, _Registered] = {}
        self._packages: dict[Path, Package] = {}
        self._defined: dict[Path, dict[str, type]] = {}
        register_after_fork(self)

    def after_fork(self) -> None:
        """Make a new lock in a forked child, because another thread may have held the parent's."""
        self._lock = threading.RLock()

    @property
    def tactics(self) -> dict[str, type]:
        """The registered classes, by their stable paths."""
        with self._lock:
            return {path: entry.cls for path, entry in self._tactics.items()}

    @property
    def packages(self) -> tuple[Package, ...]:
        """The loaded packages."""
        with self._lock:
            return tuple(self._packages.values())

    def register(self, cls: type) -> None:
        """Register a tactic under its stable path.

        A class that only inherits its name is not registered, because it would replace its parent.
        A warning is given if another file of the same package defines the same name; the later one
        replaces the earlier one.

        Args:
            cls: The class of the tactic.

        Raises:
            ConfigError: The class has no name.
            PackageError: The lllm.toml above it is not valid.
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
            name: The name, in any form that `resolve` accepts.

        Returns:
            The class of the tactic.

        Raises:
            ConfigError: No tactic has that name, or several have; the message lists the candidates.
        """
        path = self.resolve(name)
        tactics = self.tactics
        if path not in tactics:
            known = ", ".join(sorted(tactics)) or "none"
            raise ConfigError(f"There is no tactic {name!r}. Registered are: {known}.")
        return tactics[path]

    def resolve(self, query: str) -> str:
        """Find the stable path of a tactic by its name.

        `my_project::analyzer` is a stable path already. In `my_project:v2/analyzer` and
        `shared:analyzer`, the package is a name or an alias. The part before the last slash is
        ignored; it only tells where the tactic once was. A bare `analyzer` is the only tactic of
        that name.

        Args:
            query: The name, in any of these forms.

        Returns:
            The stable path; `query` itself if it is unknown, because an old log may contain it.

        Raises:
            ConfigError: Several tactics or packages match.
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
        """List the registered classes of a file, except those defined inside functions.

        Args:
            file: The path of the file.

        Returns:
            The classes, in the order of their definition.
        """
        with self._lock:
            found = self._defined.get(file, {})
            return [cls for name, cls in found.items() if "<locals>" not in name]

    def add(self, packages: Mapping[Path, Package]) -> None:
        """Register loaded packages and all their tactics.

        Args:
            packages: The packages, by their roots.
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
