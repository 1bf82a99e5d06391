"""Packages: reading lllm.toml, loading tactics, and the names that find them."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from lllm.events.errors import ConfigError, PackageError
from lllm.packages.loader import Runtime, default_runtime, load_package, tactic_path

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

TACTIC = """
from lllm.packages.loader import default_runtime
class {cls}:
    name = "{name}"
default_runtime.register({cls})
"""


def tactic(name: str, cls: str = "Thing") -> str:
    return TACTIC.format(name=name, cls=cls)


def package(
    root: Path,
    name: str,
    files: Mapping[str, str] | None = None,
    *,
    paths: str = '["tactics/"]',
    packages: str = "[]",
) -> Path:
    """A package on disk. files: their texts by their paths."""
    root.mkdir(parents=True, exist_ok=True)
    (root / "lllm.toml").write_text(
        f'[package]\nname = "{name}"\nversion = "1.0.0"\n[tactics]\npaths = {paths}\n'
        f"[dependencies]\npackages = {packages}\n"
    )
    for path, text in (files or {}).items():
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return root


def ask(code: str, folder: Path) -> object:
    """What an expression is, in a process of its own that has loaded the package in `folder`."""
    program = (
        "import json, sys\nfrom lllm.packages.loader import *\n"
        f"load_package({str(folder)!r})\nprint(json.dumps({code}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    return json.loads(done.stdout)


@pytest.fixture
def importable(tmp_path: Path) -> Iterator[Path]:
    """A folder on sys.path whose modules are forgotten afterwards."""
    before = set(sys.modules)
    sys.path.insert(0, str(tmp_path))
    importlib.invalidate_caches()
    yield tmp_path
    sys.path.remove(str(tmp_path))
    for name in set(sys.modules) - before:
        del sys.modules[name]


def test_loading_registers(tmp_path: Path) -> None:
    """The tactics below the listed folders are registered under package and name."""
    root = package(
        tmp_path / "code",
        "my_project",
        {
            "tactics/analyzer.py": tactic("analyzer"),
            "tactics/deep/writer.py": tactic("writer"),
            "more/critic.py": tactic("critic"),
            "other/hidden.py": tactic("hidden"),
        },
        paths='["tactics/", "more under v2/"]',
    )
    runtime = Runtime()
    found = load_package(root, runtime)
    assert (found.name, found.version, found.root) == ("my_project", "1.0.0", root)
    assert set(found.tactics) == {"analyzer", "writer", "critic"}
    assert set(runtime.tactics) == {f"my_project::{name}" for name in found.tactics}
    assert runtime.packages == (found,)
    assert load_package(root / "lllm.toml", runtime).tactics == found.tactics


def test_a_moved_file_is_the_same_tactic(tmp_path: Path) -> None:
    """Moving a tactic's file within its package changes no path."""
    root = package(tmp_path, "my_project", {"tactics/a.py": tactic("analyzer")})
    before = ask("list(default_runtime.tactics)", root)
    (root / "tactics" / "deep").mkdir()
    (root / "tactics" / "a.py").rename(root / "tactics" / "deep" / "b.py")
    assert ask("list(default_runtime.tactics)", root) == before == ["my_project::analyzer"]


def test_another_under_is_the_same_tactic(tmp_path: Path) -> None:
    """Changing `under` changes no path, and queries with the old one find the same."""
    files = {"tactics/a.py": tactic("analyzer")}
    package(tmp_path, "my_project", files, paths='["tactics under v1"]')
    queries = ["my_project:v1/analyzer", "my_project:v2/analyzer", "my_project:analyzer"]
    resolve = f"[default_runtime.resolve(query) for query in {queries}]"
    before = ask(resolve, tmp_path)
    package(tmp_path, "my_project", paths='["tactics under v2"]')
    assert ask(resolve, tmp_path) == before == ["my_project::analyzer"] * 3


def test_another_alias_is_the_same_tactic(tmp_path: Path) -> None:
    """Changing an alias changes no path, and the new alias finds what the old one found."""
    package(tmp_path / "shared_pkg", "shared_pkg", {"tactics/a.py": tactic("analyzer")})
    root = package(tmp_path / "app", "app", paths="[]", packages='["../shared_pkg as shared"]')
    before = ask("[default_runtime.resolve('shared:analyzer'), *default_runtime.tactics]", root)
    package(root, "app", paths="[]", packages='["../shared_pkg as common"]')
    after = ask("[default_runtime.resolve('common:analyzer'), *default_runtime.tactics]", root)
    assert before == after == ["shared_pkg::analyzer"] * 2


def test_an_imported_tactic_has_the_same_path(importable: Path) -> None:
    """A tactic that is simply imported has the path that it has when it is loaded."""
    package(importable, "imported", {"plain_import/a.py": tactic("analyzer")})
    module = importlib.import_module("plain_import.a")
    assert tactic_path(module.Thing) == "imported::analyzer"
    assert default_runtime.find("imported:v7/analyzer") is module.Thing


def test_without_a_toml_the_name_is_bare(importable: Path) -> None:
    """A class with no lllm.toml above its file has its bare name, and so has one of a REPL."""
    (importable / "lonely_tactic.py").write_text(tactic("lonely"))
    module = importlib.import_module("lonely_tactic")
    assert tactic_path(module.Thing) == "lonely"
    program = "from lllm.packages.loader import *\nclass A:\n    name = 'a'\nprint(tactic_path(A))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "a"


def test_a_script_belongs_to_its_package(tmp_path: Path) -> None:
    """A class of a script that is run has the path of the script's package."""
    script = tactic("analyzer") + "print(default_runtime.tactics)"
    root = package(tmp_path, "my_project", {"run.py": script})
    done = subprocess.run([sys.executable, root / "run.py"], capture_output=True, text=True)
    assert "my_project::analyzer" in done.stdout


def test_installed_libraries_belong_to_no_project(importable: Path) -> None:
    """A library in a venv below a project has none of the project's name."""
    package(importable, "my_project")
    site = importable / "venv" / "site-packages"
    site.mkdir(parents=True)
    (site / "library_tactic.py").write_text(tactic("foreign"))
    sys.path.insert(0, str(site))
    try:
        module = importlib.import_module("library_tactic")
    finally:
        sys.path.remove(str(site))
    assert tactic_path(module.Thing) == "foreign"


def test_the_nearest_toml_counts(tmp_path: Path) -> None:
    """A package within a package is its own, and the outer one leaves its tactics alone."""
    outer = package(tmp_path, "outer", {"tactics/a.py": tactic("a")})
    inner = package(tmp_path / "tactics/inner", "inner", {"tactics/b.py": tactic("b")})
    assert set(load_package(outer, Runtime()).tactics) == {"a"}
    runtime = Runtime()
    load_package(inner, runtime)
    assert set(runtime.tactics) == {"inner::b"}


def test_cycles_and_diamonds(tmp_path: Path) -> None:
    """Packages that depend on each other, or on one in common, are loaded once each."""
    files = {"tactics/t.py": tactic("t")}
    package(tmp_path / "base", "base", files, packages='["../top"]')
    for side in ("left", "right"):
        package(tmp_path / side, side, files, packages='["../base as below"]')
    package(tmp_path / "top", "top", files, packages='["../left", "../right as r"]')
    runtime = Runtime()
    load_package(tmp_path / "top", runtime)
    assert {found.name for found in runtime.packages} == {"top", "left", "right", "base"}
    assert set(runtime.tactics) == {"top::t", "left::t", "right::t", "base::t"}
    assert runtime.resolve("r:t") == "right::t"
    assert runtime.resolve("below:t") == "base::t"


def test_files_of_one_name_do_not_collide(tmp_path: Path) -> None:
    """Two packages may have files of the same path, and modules of the standard library's name."""
    runtime = Runtime()
    for name in ("one", "two"):
        root = package(tmp_path / name, name, {"tactics/json.py": tactic(name)})
        load_package(root, runtime)
    assert set(runtime.tactics) == {"one::one", "two::two"}
    assert importlib.import_module("json") is json


def test_relative_imports(tmp_path: Path) -> None:
    """A tactic's file may import, relatively, whatever lies in its package."""
    root = package(
        tmp_path,
        "my_project",
        {
            "names.py": "NAME = 'analyzer'",
            "tactics/__init__.py": "",
            "tactics/base.py": "SUFFIX = '-2'",
            "tactics/a.py": "from ..names import NAME\nfrom .base import SUFFIX\n"
            + tactic("x").replace('"x"', "NAME + SUFFIX"),
        },
    )
    assert set(load_package(root, Runtime()).tactics) == {"analyzer-2"}


def test_an_imported_file_is_not_run_again(importable: Path) -> None:
    """A file that was imported before is not executed a second time."""
    counting = "import sys\nsys.lllm_runs = getattr(sys, 'lllm_runs', 0) + 1\n" + tactic("a")
    root = package(importable, "my_project", {"tactics/run_once.py": counting})
    program = (
        f"import sys\nsys.path.insert(0, {str(root)!r})\nimport tactics.run_once as module\n"
        f"from lllm.packages.loader import *\nfound = load_package({str(root)!r})\n"
        "assert sys.lllm_runs == 1\nassert found.tactics == {'a': module.Thing}"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_loading_again_finds_what_is_new(tmp_path: Path) -> None:
    """Loading a package again imports new files and reads the lllm.toml again."""
    root = package(tmp_path, "my_project", {"tactics/a.py": tactic("a")})
    runtime = Runtime()
    before = load_package(root, runtime).tactics["a"]
    package(root, "my_project", {"more/b.py": tactic("b")}, paths='["tactics", "more"]')
    after = load_package(root, runtime).tactics
    assert set(after) == {"a", "b"}
    assert after["a"] is before


def test_a_renamed_package_is_loaded_under_its_new_name(tmp_path: Path) -> None:
    """Loading again after the package was renamed registers its tactics under the new name."""
    root = package(tmp_path, "old_name", {"tactics/a.py": tactic("a")})
    first = load_package(root, Runtime()).tactics["a"]
    assert tactic_path(first) == "old_name::a"
    runtime = Runtime()
    load_package(package(root, "new_name"), runtime)
    assert runtime.tactics == {"new_name::a": first}
    assert tactic_path(first) == "new_name::a"


def test_a_later_definition_in_the_file_replaces(importable: Path) -> None:
    """Reloading a module replaces its tactics without a word."""
    package(importable, "my_project", {"reloaded_tactic.py": tactic("reloaded")})
    module = importlib.import_module("reloaded_tactic")
    first = module.Thing
    again = importlib.reload(module)
    assert default_runtime.find("my_project::reloaded") is again.Thing
    assert again.Thing is not first


def test_importing_two_of_one_name_warns(importable: Path) -> None:
    """Two files of a package that define one name warn when both are imported."""
    twins = {"twin_one.py": tactic("twin"), "twin_two.py": tactic("twin")}
    package(importable, "my_project", twins)
    importlib.import_module("twin_one")
    with pytest.warns(UserWarning, match=r"twin_two.py and .*twin_one.py both define .*::twin"):
        module = importlib.import_module("twin_two")
    assert default_runtime.find("my_project::twin") is module.Thing


def test_a_file_that_was_moved_is_no_second_one(importable: Path) -> None:
    """A tactic whose file was moved while the program runs is not warned about."""
    package(importable, "my_project", {"moved_one.py": tactic("moved")})
    importlib.import_module("moved_one")
    (importable / "moved_one.py").rename(importable / "moved_two.py")
    importlib.invalidate_caches()
    module = importlib.import_module("moved_two")
    assert default_runtime.find("my_project::moved") is module.Thing


def test_an_inherited_name_is_not_registered() -> None:
    """A subclass without a name of its own does not take its parent's place."""

    class Parent:
        name = "parent-of-one"

    class Child(Parent):
        pass

    runtime = Runtime()
    runtime.register(Parent)
    runtime.register(Child)
    assert runtime.find("parent-of-one") is Parent


def test_a_tactic_needs_a_name() -> None:
    """A class whose name is missing, empty or no text is a ConfigError."""
    for name in ({}, {"name": ""}, {"name": 3}):
        with pytest.raises(ConfigError, match="Nameless has no name"):
            tactic_path(type("Nameless", (), dict(name)))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[package", "is not valid TOML"),
        ("", "missing required field `package`"),
        ("[package]\nversion = '1'", r"missing required field `name` - at `\$.package`"),
        ("[package]\nname = 3", r"`\$.package.name`"),
        ("[package]\nname = 'a::b'", r"`\$.package.name`"),
        ("[package]\nname = ''", r"`\$.package.name`"),
        ("[package]\nname = 'a'\nnmae = 'b'", r"unknown field `nmae` - at `\$.package`"),
        ("[package]\nname = 'a'\n[tactic]", "unknown field `tactic`"),
        ("[package]\nname = 'a'\n[tactics]\npaths = 'x'", r"`\$.tactics.paths`"),
        ("[package]\nname = 'a'\n[tactics]\npaths = ['x under']", r"\[tactics\] paths has 'x un"),
        ("[package]\nname = 'a'\n[tactics]\npaths = ['x under a b']", r"\[tactics\] paths has 'x"),
        ("[package]\nname = 'a'\n[tactics]\npaths = ['gone/ under v2']", "gone.* no such folder"),
        ("[package]\nname = 'a'\n[tactics]\npaths = ['..']", "not inside the package"),
        ("[package]\nname = 'a'\n[dependencies]\npackages = ['../gone as g']", "has no lllm.toml"),
        ("[package]\nname = 'a'\n[dependencies]\npackages = ['x as a:b']", "not 'path as name'"),
        ("[package]\nname = 'a'\n[dependencies]\npackages = ['x as y', 'z as y']", "'y' twice"),
    ],
)
def test_a_wrong_toml_is_told_by_file_and_key(tmp_path: Path, text: str, says: str) -> None:
    """What is wrong in an lllm.toml is a PackageError that names the file and the key."""
    root = tmp_path / "wrong"
    root.mkdir()
    (root / "lllm.toml").write_text(text)
    with pytest.raises(PackageError, match=says) as caught:
        load_package(root)
    assert str(root / "lllm.toml") in str(caught.value)


def test_a_dependency_s_error_names_both_files(tmp_path: Path) -> None:
    """An error in a dependency says who depends on it."""
    (tmp_path / "dep").mkdir()
    (tmp_path / "dep" / "lllm.toml").write_text("[package]")
    root = package(tmp_path / "app", "app", paths="[]", packages='["../dep as d"]')
    with pytest.raises(PackageError, match=r"app/lllm.toml: .*'../dep as d'.*dep/lllm.toml"):
        load_package(root)


def test_no_package(tmp_path: Path) -> None:
    """A folder without an lllm.toml is no package."""
    with pytest.raises(PackageError, match=r"has no lllm\.toml"):
        load_package(tmp_path)


def test_two_packages_of_one_name(tmp_path: Path) -> None:
    """Two packages of one name can't be loaded together."""
    package(tmp_path / "copy", "app", paths="[]")
    root = package(tmp_path / "app", "app", paths="[]", packages='["../copy as c"]')
    with pytest.raises(PackageError, match=r"both have .* name 'app'"):
        load_package(root)


@pytest.mark.parametrize("files", [("a", "b"), ("a", "a")])
def test_two_tactics_of_one_name(tmp_path: Path, files: tuple[str, str]) -> None:
    """Two tactics of one name in one package are a PackageError, in one file or in two."""
    root = package(tmp_path, "my_project", {"tactics/a.py": ""})
    for file, cls in zip(files, ("One", "Two"), strict=True):
        with (root / "tactics" / f"{file}.py").open("a") as stream:
            stream.write(tactic("same", cls))
    runtime = Runtime()
    with pytest.raises(PackageError, match=r"two tactics are named 'same': One in .* and Two in"):
        load_package(root, runtime)
    assert runtime.packages == ()
    assert runtime.tactics == {}


@pytest.mark.parametrize("text", ["1 / 0", "import nowhere", "def", "from .nowhere import x"])
def test_a_file_that_can_t_be_imported(tmp_path: Path, text: str) -> None:
    """A broken file is a PackageError that names it, and can be loaded once it is mended."""
    root = package(tmp_path, "my_project", {"tactics/broken.py": text})
    with pytest.raises(PackageError, match=r"broken\.py can't be imported: \w+Error: ") as caught:
        load_package(root, Runtime())
    assert caught.value.__cause__ is not None
    package(root, "my_project", {"tactics/broken.py": tactic("mended")})
    assert set(load_package(root, Runtime()).tactics) == {"mended"}


def test_a_name_that_python_can_t_import(tmp_path: Path) -> None:
    """A file that Python would not find under its name is refused, and told which to rename."""
    root = package(tmp_path, "my_project", {"tactics/a.py": tactic("a")})
    (root / "tactics" / "b.c.py").write_text("")
    with pytest.raises(PackageError, match=r"b\.c\.py can't be imported: rename it"):
        load_package(root, Runtime())
    (root / "tactics" / "b.c.py").unlink()
    package(root, "my_project", {"tactics/hid.py": "", "tactics/hid/__init__.py": ""})
    with pytest.raises(PackageError, match=r"hid\.py can't be imported: .*__init__\.py hides it"):
        load_package(root, Runtime())


def test_hidden_files_and_programs_are_left_alone(tmp_path: Path) -> None:
    """Hidden folders, __main__.py and the root's __init__.py are not imported."""
    root = package(
        tmp_path,
        "p",
        {
            "__init__.py": "1 / 0",
            ".cache/x.py": "1 / 0",
            "a/__main__.py": "1 / 0",
            "a/b.py": tactic("b"),
        },
        paths='["."]',
    )
    assert set(load_package(root, Runtime()).tactics) == {"b"}


def test_finding(tmp_path: Path) -> None:
    """A tactic is found by any form of its name; an unknown one lists what there is."""
    both = tactic("t") + tactic("a/b", "Slash")
    package(tmp_path / "one", "one", {"tactics/t.py": both})
    runtime = Runtime()
    load_package(tmp_path / "one", runtime)
    for name in ("one::t", "one:t", "one:x/t", "t"):
        assert runtime.resolve(name) == "one::t"
        assert tactic_path(runtime.find(name)) == "one::t"
    assert runtime.resolve("one:x/a/b") == runtime.resolve("a/b") == "one::a/b"
    with pytest.raises(ConfigError, match=r"no tactic 'v'\. Registered are: one::a/b, one::t\."):
        runtime.find("v")
    with pytest.raises(ConfigError, match="Registered are: none"):
        Runtime().find("v")


def test_a_name_that_may_be_several_is_refused(tmp_path: Path) -> None:
    """A bare name or an alias that could mean several is a ConfigError that lists them."""
    for name in ("one", "two"):
        package(tmp_path / name, name, {"tactics/t.py": tactic("t")})
        user = f"{name}_user"
        package(tmp_path / user, user, paths="[]", packages=f'["../{name} as x"]')
    runtime = Runtime()
    load_package(tmp_path / "one_user", runtime)
    load_package(tmp_path / "two_user", runtime)
    with pytest.raises(ConfigError, match="'t' may be any of one::t, two::t"):
        runtime.resolve("t")
    with pytest.raises(ConfigError, match="'x' may be any of one, two"):
        runtime.resolve("x:t")


def test_the_unknown_stays_as_it_is(tmp_path: Path) -> None:
    """A query for what no package has is left alone, but a known package's name is put in."""
    package(tmp_path / "one", "one", paths="[]")
    runtime = Runtime()
    load_package(package(tmp_path / "two", "two", paths="[]", packages='["../one as o"]'), runtime)
    for query in ("gone", "gone:x/y", "o::t", "two::gone", ""):
        assert runtime.resolve(query) == query
    assert runtime.resolve("o:v2/gone") == "one::gone"


def test_many_threads_load_at_once(tmp_path: Path) -> None:
    """Threads that load one package at once run its files once and find the same classes."""
    files = {f"tactics/{name}.py": tactic(name) for name in "abc"}
    root = package(tmp_path, "my_project", files)
    found: list[dict[str, type]] = []
    barrier = threading.Barrier(8)
    runtime = Runtime()

    def load() -> None:
        barrier.wait()
        found.append(dict(load_package(root, runtime).tactics))

    threads = [threading.Thread(target=load) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert all(tactics == found[0] for tactics in found)
