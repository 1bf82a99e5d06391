"""Loads packages of tactics: imports their files, and registers the tactics that they define.

Each file is imported below a namespace of its package, so that relative imports work and two
packages may both have a `tactics/writer.py`. The lllm.toml files of the package and of all its
dependencies are read and checked before any code runs.
"""

from __future__ import annotations

import hashlib
import importlib
import re
import sys
import types
from pathlib import Path
from typing import TYPE_CHECKING

from lllm.events.concurrency.robust_locks import ForkSafeLock
from lllm.events.errors import PackageError
from lllm.packages.manifest import FILE_NAME, Folder, Manifest, nearest_manifest, read_manifest
from lllm.packages.registry import (
    Package,
    Runtime,
    default_runtime,
    file_of,
    file_of_module,
    forget_paths,
    loading,
    tactic_name,
    tactic_path,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["Package", "Runtime", "default_runtime", "load_package", "tactic_path"]

# One load at a time, so no file is executed twice. It is taken before Python's own import lock.
_one_load = ForkSafeLock(order=0)


def load_package(path: str | Path, runtime: Runtime | None = None) -> Package:
    """Register the tactics of a package and of all its dependencies.

    Every .py file below the folders of `[tactics] paths` is imported under a unique module name,
    unless it was imported already. Relative imports can reach all files of the package. A second
    load reads the lllm.toml again, and imports new files.

    Args:
        path: The path of the folder with the lllm.toml, or of the lllm.toml itself.
        runtime: The registry for the tactics; None for the one that `build_tactic` searches.

    Returns:
        The loaded package.

    Raises:
        PackageError: An lllm.toml or a folder is missing or wrong, a file can't be imported, or
            two tactics have the same name. The message names the file and the key. The runtime is
            left without the package then.
    """
    root = _root_of(Path(path))
    with _one_load.held():
        forget_paths()
        importlib.invalidate_caches()
        manifests: dict[Path, Manifest] = {}
        _collect(root, manifests)
        _refuse_namesakes(manifests)
        packages = {manifest.root: _load(manifest, manifests) for manifest in manifests.values()}
        (default_runtime if runtime is None else runtime).add(packages)
    return packages[root]


def _root_of(path: Path) -> Path:
    path = path.resolve()
    root = path.parent if path.name == FILE_NAME else path
    if not (root / FILE_NAME).is_file():
        raise PackageError(f"There is no package in {root}: it has no {FILE_NAME}.")
    return root


def _collect(root: Path, manifests: dict[Path, Manifest]) -> None:
    """Read the manifests of a package and its dependencies, each once."""
    if root in manifests:
        return
    manifest = manifests[root] = read_manifest(root)
    for dependency in manifest.dependencies:
        try:
            _collect(_root_of(dependency.root), manifests)
        except PackageError as error:
            raise PackageError(
                f"{manifest.file}: [dependencies] packages has {dependency.entry!r}: {error}"
            ) from error


def _refuse_namesakes(manifests: Mapping[Path, Manifest]) -> None:
    files: dict[str, Path] = {}
    for manifest in manifests.values():
        other = files.setdefault(manifest.name, manifest.file)
        if other != manifest.file:
            raise PackageError(
                f"{other} and {manifest.file} both have [package] name {manifest.name!r}; their "
                "sessions could not be told apart."
            )


def _load(manifest: Manifest, manifests: Mapping[Path, Manifest]) -> Package:
    tactics: dict[str, type] = {}
    for file in dict.fromkeys(_tactic_files(manifest)):
        _import(file, manifest)
        for cls in default_runtime.defined_in(file):
            other = tactics.setdefault(tactic_name(cls), cls)
            if other is not cls:
                raise PackageError(
                    f"{manifest.file}: two tactics are named {tactic_name(cls)!r}: "
                    f"{other.__qualname__} in {file_of(other)} and {cls.__qualname__} in {file}."
                )
    aliases = {
        dependency.alias: manifests[_root_of(dependency.root)].name
        for dependency in manifest.dependencies
        if dependency.alias
    }
    return Package(manifest.name, manifest.version, manifest.root, tactics, aliases)


def _tactic_files(manifest: Manifest) -> Iterator[Path]:
    for folder in manifest.folders:
        if not folder.path.is_dir():
            raise _wrong_folder(manifest, folder, "there is no such folder")
        if not folder.path.is_relative_to(manifest.root):
            raise _wrong_folder(manifest, folder, "it is not inside the package")
        for file in sorted(folder.path.rglob("*.py")):
            if _is_tactic_file(file.resolve(), manifest):
                yield file.resolve()


def _wrong_folder(manifest: Manifest, folder: Folder, why: str) -> PackageError:
    return PackageError(
        f"{manifest.file}: [tactics] paths has {folder.entry!r}, but {why}: {folder.path}."
    )


def _is_tactic_file(file: Path, manifest: Manifest) -> bool:
    owner = nearest_manifest(file)  # a package, or a venv, may lie inside another package
    if owner is None or owner.root != manifest.root:
        return False
    parts = file.relative_to(manifest.root).parts
    hidden = any(part.startswith(".") for part in parts)
    return not hidden and parts[-1] != "__main__.py" and parts != ("__init__.py",)


def _import(file: Path, manifest: Manifest) -> None:
    """Import a file below the package's own namespace, once in this process."""
    if _is_imported(file):
        return
    parts = list(file.relative_to(manifest.root).with_suffix("").parts)
    if parts[-1] == "__init__":
        parts.pop()
    if any("." in part for part in parts):
        raise PackageError(f"{file} can't be imported: rename it, so that no name has a dot.")
    token = loading.set(True)
    try:
        module = importlib.import_module(".".join([_namespace(manifest), *parts]))
    except Exception as error:  # the user's code may raise anything
        raise PackageError(f"{file} can't be imported: {type(error).__name__}: {error}") from error
    finally:
        loading.reset(token)
    if file_of_module(module) != file:
        raise PackageError(f"{file} can't be imported: {module.__file__} hides it. Rename one.")


def _is_imported(file: Path) -> bool:
    return any(
        file_of_module(module) == file
        for module in list(sys.modules.values())
        if str(getattr(module, "__dict__", {}).get("__file__")).endswith(file.name)
    )


def _namespace(manifest: Manifest) -> str:
    """Make the namespace of a package, and return its unique module name.

    Python's own import system finds the package's files below it.
    """
    digest = hashlib.sha256(str(manifest.root).encode()).hexdigest()[:12]
    name = f"_lllm_{re.sub(r'[^0-9A-Za-z]', '_', manifest.name)}_{digest}"
    if name not in sys.modules:
        module = types.ModuleType(name, f"The package at {manifest.root}.")
        module.__path__ = [str(manifest.root)]
        sys.modules[name] = module
    return name
