"""The floors, the public names, and what importing the library costs."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from functools import cache
from graphlib import CycleError, TopologicalSorter
from itertools import zip_longest
from pathlib import Path

import pytest

import lllm
import lllm.logging

ROOT = Path(__file__).parent.parent
FLOORS = {"events": 0, "projections": 1, "lllm": 2}
MODULES = sorted(
    path for floor in FLOORS for path in (ROOT / floor).rglob("*.py") if "build" not in path.parts
)


@cache
def parsed(path: Path) -> tuple[ast.AST, ...]:
    """Every node of a file."""
    return tuple(ast.walk(ast.parse(path.read_text())))


def imported(path: Path) -> set[str]:
    """The modules of ours that a file imports, wherever in it."""
    found: set[str] = set()
    for node in parsed(path):
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return {name for name in found if name.startswith("lllm.")}


def floor_of(module: str) -> str:
    """The floor that a module stands on."""
    second = module.split(".")[1]
    return second if second in FLOORS else "lllm"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_run_downwards(path: Path) -> None:
    """lllm may import projections, and both may import events; never the other way round."""
    here = path.relative_to(ROOT).parts[0]
    above = {name for name in imported(path) if FLOORS[floor_of(name)] > FLOORS[here]}
    assert above == set()


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_module_says_what_it_is_for(path: Path) -> None:
    """Each module begins with a docstring, and none has a name that says nothing."""
    assert ast.get_docstring(ast.parse(path.read_text()))
    assert path.stem not in {"utils", "helpers", "common", "misc", "base"}


def run_time_imports(path: Path) -> set[str]:
    """The modules of ours that a file imports when it runs, inside functions too."""
    for_types = {
        id(inner)
        for node in parsed(path)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    found: set[str] = set()
    for node in parsed(path):
        if id(node) in for_types:
            continue
        if isinstance(node, ast.ImportFrom) and node.module:
            submodules = {f"{node.module}.{alias.name}" for alias in node.names} & _NAMES.keys()
            # `from package import module` runs the module; any other name is the package's own.
            found |= submodules or {node.module}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found & _NAMES.keys()


def _module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(part for part in ("lllm", *parts) if part != "__init__").replace(
        "lllm.lllm", "lllm"
    )


_NAMES = {_module_name(path): path for path in MODULES}


def test_no_circle_of_imports() -> None:
    """A module never imports, by whatever way, one that imports it; not even inside a function."""
    imports = {name: run_time_imports(path) - {name} for name, path in _NAMES.items()}
    try:
        tuple(TopologicalSorter(imports).static_order())
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_a_question_runs_one_way() -> None:
    """A filter knows nothing of rows, queries make SQL of it, and neither knows what keeps rows up
    to date, which asks no queries."""
    projections = ROOT / "projections"
    assert imported(projections / "queries" / "filters.py") == set()
    for folder, other in (("queries", "engine"), ("engine", "queries"), ("views", "queries")):
        for path in (projections / folder).glob("*.py"):
            above = {
                name for name in imported(path) if name.startswith(f"lllm.projections.{other}")
            }
            assert above == set(), path


def test_every_room_is_in_the_guide() -> None:
    """docs/architecture.md has a line for each folder of a floor, and for nothing else."""
    guide = (ROOT / "docs" / "architecture.md").read_text()
    told = re.findall(r"^\| `((?:lllm|projections|events)/\w+/)` \|", guide, re.MULTILINE)
    rooms = [
        f"{floor}/{path.parent.name}/"
        for floor in FLOORS
        for path in (ROOT / floor).glob("*/__init__.py")
    ]
    assert sorted(told) == sorted(rooms)


def test_every_package_is_installed() -> None:
    """pyproject.toml lists each folder that has modules."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = {name for name, path in _NAMES.items() if path.name == "__init__.py"}
    assert set(project["tool"]["setuptools"]["packages"]) == packages


def test_a_class_has_a_name_of_its_own() -> None:
    """No public class name stands in two modules: one name, one meaning."""
    found: dict[str, list[str]] = {}
    for name, path in _NAMES.items():
        for node in parsed(path):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                found.setdefault(node.name, []).append(name)
    assert {name: places for name, places in found.items() if len(places) > 1} == {}


def test_every_field_of_an_event_says_what_it_is() -> None:
    """Each field of `events/model.py` has a docstring under it."""
    lacking = []
    for kind in ast.parse((ROOT / "events" / "model.py").read_text()).body:
        body = kind.body if isinstance(kind, ast.ClassDef) else []
        for field, below in zip_longest(body, body[1:]):
            if isinstance(field, ast.AnnAssign) and "ClassVar" not in ast.unparse(field.annotation):
                is_text = isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant)
                if not is_text:
                    lacking.append(f"line {field.lineno}: {ast.unparse(field)}")
    assert lacking == []


ENGINES = {
    "SQLiteBackend", "LocalFileBackend", "MemoryBackend", "NoOpBackend", "PostgresBackend",
    "JetStreamBackend",
}  # fmt: skip


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nobody_asks_a_backend_for_its_class(path: Path) -> None:
    """What a backend can do is asked by a protocol of `lllm.events.log`, which imports no
    engine."""
    for node in parsed(path):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("isinstance", "issubclass"):
            asked = {one.id for one in ast.walk(node.args[1]) if isinstance(one, ast.Name)}
            assert asked & ENGINES == set(), f"line {node.lineno}"
    if path == ROOT / "events" / "backend.py":
        assert run_time_imports(path) <= {"lllm.events.errors", "lllm.events.envelope"}


PUBLIC = """
AgentCallSession Agent AgentError AmbiguousId AppendConflict AppendTooLarge BudgetExceeded
CallRecord ConfigError
Dialog
ImportRefused
InvokeCost InvokeError JetStreamBackend LllmError LocalFileBackend LogDamaged LogError LogReadOnly
LogStore
LogTooNew LogUnavailable Message
MissingExtra NoOpBackend PackageError ParseError PostgresBackend Prompt PromptError Runtime
SQLiteBackend
SearchHit SearchHits SearchQueryError SearchUnavailable
SessionEnded SessionNotFound SessionRecord SessionSummary StoreError Tactic TacticCallSession
BEARER CARD EMAIL Pattern Piece ViewError WrongProcess build_tactic capture captured load_package
redacted_in release tool Executor instrument uninstrument
AuditError SealRefused SignatureInvalid ErasureRefused SessionWasErased ArchiveRefused
SessionWasArchived
Replay ReplayDivergence ReplayError ReplayInterrupted ReplayPlace Edit Fork now random uuid4
"""


def test_the_public_names() -> None:
    """The public API changes only on purpose."""
    assert set(lllm.__all__) == {*PUBLIC.split(), "__version__"}
    for name in lllm.__all__:
        assert getattr(lllm, name) is not None
    assert dir(lllm) == sorted(lllm.__all__)
    for_types = {
        alias.name: node.module
        for node in parsed(ROOT / "lllm" / "__init__.py")
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if alias.asname == alias.name
    }
    assert for_types == lllm._MODULE_OF | {"__version__": "lllm.version"}
    with pytest.raises(AttributeError, match="nonsense"):
        lllm.nonsense  # noqa: B018 # that it is looked up is the test
    logging_names = {
        "ColoredFormatter", "local_store", "noop_store", "setup_logging", "sqlite_store",
    }  # fmt: skip
    assert logging_names <= set(vars(lllm.logging))


STORE = """
annotate annotations export_dataset export_parquet to_arrow to_pandas
children filter_values
backend backup carry close database diff events export_cost_summary export_lists export_session
find_id follow fork link import_otlp import_sessions import_transcripts
lag list_calls list_sessions load_session load_session_record log open partition prices prove
read_only rebuild redact replay save_error seal search session summarize_calls tactic tag
archive delete_session erase erase_session hold holds release retain vacuum
"""


def test_the_surface_of_a_store() -> None:
    """A LogStore has what its users call; what sessions ask of it is `session_host`'s."""
    store = lllm.LogStore(lllm.NoOpBackend())
    assert {name for name in dir(store) if not name.startswith("_")} == set(STORE.split())
    store.close()


HEAVY = {
    "openai", "anthropic", "genai_prices", "pydantic", "structlog", "rich", "click", "sqlite_utils",
    "asyncio", "importlib.metadata", "cryptography",
}  # fmt: skip


def loaded_by(program: str) -> set[str]:
    """The modules that a fresh interpreter has loaded after a program."""
    code = f"{program}\nimport sys; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return set(run.stdout.split())


def test_importing_loads_nothing_heavy(tmp_path: Path) -> None:
    """`import lllm` loads nothing of ours but itself; opening a store loads no SDK, prices,
    terminal library or event loop."""
    loaded = loaded_by("import lllm")
    assert {name for name in loaded if name.startswith("lllm")} <= {"lllm", "lllm.version"}
    opened = f"from lllm import *; LogStore(SQLiteBackend({str(tmp_path / 'r.db')!r})).close()"
    assert loaded_by(opened) & HEAVY == set()


def test_the_web_page_starts_without_what_its_list_does_not_need() -> None:
    """Making the web application loads no terminal library, no diff, no prices and no Markdown."""
    not_needed = {"rich", "lllm.replay.session_diff", "lllm.doctor", "genai_prices", "markdown_it"}
    assert loaded_by("import lllm.web.app") & not_needed == set()


def test_a_system_without_flock_is_told_what_is_supported() -> None:
    """On Windows, which has no fcntl, `import lllm` fails, and says where lllm runs."""
    code = "import sys; sys.modules['fcntl'] = None; import lllm"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    last = run.stderr.strip().rpartition("\n")[2]
    assert last.startswith("ImportError: lllm runs on Linux and macOS, and not on this system")
    assert "During handling" not in run.stderr
