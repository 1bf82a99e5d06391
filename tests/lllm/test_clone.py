"""What works in a clone's folder, where Python finds `./lllm` in front of an installed one."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import ROOT

LIBRARIES = [path for path in sys.path if Path(path).name == "site-packages"]

# Prints each module of ours and its file, and fails where a file was loaded under two names.
IMPORTS = """
import collections, sys
import lllm, lllm.events, lllm.projections.view
from lllm import LogStore, SQLiteBackend, Tactic, capture
ours = {name: module.__file__ for name, module in sys.modules.items() if name.startswith("lllm")}
twice = [file for file, n in collections.Counter(ours.values()).items() if n > 1]
assert not twice, twice
print(*ours.values(), sep="\\n")
"""

SPAWNS = """
import multiprocessing, pickle
from lllm import InvokeCost
from lllm.events.errors import SessionNotFound

def kind(error):
    return type(error).__module__, type(error)

if __name__ == "__main__":
    assert pickle.loads(pickle.dumps(InvokeCost)) is InvokeCost
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        told = pool.apply(kind, [SessionNotFound("none")])
    assert told == ("lllm.events.errors", SessionNotFound), told
"""


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """The sources, laid out as in the repository."""
    top = tmp_path / "clone"
    for name in ("benchmarks", "events", "lllm", "projections"):
        shutil.copytree(ROOT / name, top / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", top)
    return top


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """The package as a wheel lays it out, in a folder of installed packages."""
    site = tmp_path / "venv" / "site-packages"
    ignored = shutil.ignore_patterns("__pycache__")
    for name, place in (("lllm", ""), ("events", "lllm"), ("projections", "lllm")):
        shutil.copytree(ROOT / name, site / place / name, ignore=ignored)
    return site


def run(*arguments: str, folder: Path, installed: Path | None) -> str:
    """What an interpreter prints that starts in a folder, without the lllm under test."""
    first = [] if installed is None else [str(installed)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([*first, *LIBRARIES])}
    environment.pop("PYTHONSAFEPATH", None)
    done = subprocess.run(
        [sys.executable, "-S", *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("with_installed", [True, False], ids=["installed", "not installed"])
def test_all_of_it_comes_from_the_clone(clone: Path, site: Path, with_installed: bool) -> None:
    """In the clone's folder every module is the clone's, under one name, whether lllm is installed
    or not."""
    installed = site if with_installed else None
    files = run("-c", IMPORTS, folder=clone, installed=installed).split()
    assert len(files) > 10
    assert all(Path(file).is_relative_to(clone) for file in files)


def test_scripts_and_benchmarks_run_in_the_clone(clone: Path, site: Path) -> None:
    """`python -m benchmarks`, a script in the folder and the processes that it spawns find all."""
    assert "Usage" in run("-m", "benchmarks", "--help", folder=clone, installed=site)
    (clone / "script.py").write_text(SPAWNS)
    run("script.py", folder=clone, installed=site)
    run("script.py", folder=clone, installed=None)


def test_a_link_to_the_package_is_followed(clone: Path, tmp_path: Path) -> None:
    """A project may have a link to the clone's package: the rest stands beside what it names."""
    project = tmp_path / "project"
    project.mkdir()
    (project / "lllm").symlink_to(clone / "lllm")
    (project / "events").mkdir()
    files = run("-c", IMPORTS, folder=project, installed=None)
    assert str(clone / "events") in files


def test_an_installed_package_stays_inside_of_itself(clone: Path, site: Path) -> None:
    """Folders beside an installed package are somebody else's, whatever they are called and even
    where they look like a clone's."""
    for name in ("events", "projections"):
        shutil.copytree(clone / name, site / name)
        (site / name / "__init__.py").write_text("raise RuntimeError('not of lllm')")
    shutil.copy(clone / "pyproject.toml", site)
    files = run("-c", IMPORTS, folder=site.parent, installed=site).split()
    assert all(Path(file).is_relative_to(site / "lllm") for file in files)


@pytest.mark.parametrize("marker", [None, "[project]\nname = 'events'\n"])
def test_folders_that_are_not_ours_are_never_taken(
    clone: Path, site: Path, marker: str | None
) -> None:
    """Without a pyproject.toml that says so, folders beside the package are not lllm's."""
    (clone / "pyproject.toml").unlink()
    if marker is not None:
        (clone / "pyproject.toml").write_text(marker)
    program = (
        "import lllm, importlib.util as u; print(len(lllm.__path__), u.find_spec('lllm.events'))"
    )
    assert run("-c", program, folder=clone, installed=site).split() == ["1", "None"]
