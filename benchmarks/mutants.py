"""Asks the tests what they would miss: `python -m benchmarks.mutants --count 40 --seed 1`.

A mutant is lllm with one small fault: a comparison, a number or a condition turned over, a
statement, a lock or an fsync taken out. Each is run with the tests that reach its line. A mutant
that they all pass with is alive: either nobody would notice the fault, or it is none. The report is
Markdown, with the diff of each mutant that is alive; it says which tests chose among.

The checkout is never changed: mutants are made in copies in a temporary folder. Which tests reach
which line is measured first, in one run of the tests under coverage, a context for each test
(https://coverage.readthedocs.io/en/latest/contexts.html). `--map FOLDER` keeps that, and the next
run with the same folder uses it; make it anew when code or tests have changed. Needs `pip install
coverage` beside the test extra. What only other processes execute is counted as reached by nobody:
such mutants are not drawn.

    python -m benchmarks.mutants --count 40 --seed 1 --only 'projections/|lllm/budget'
    python -m benchmarks.mutants --kind lock --map /tmp/map tests/events/concurrency

Kinds are drawn evenly, so that the few locks and fsyncs are tried as often as the many conditions;
the same seed draws the same places of the same code. A test that fails or is left out in the
first run is not asked later. A run that takes too long counts as killed: such faults hang.
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from itertools import chain, islice
from pathlib import Path
from queue import SimpleQueue

import click
import coverage
import pytest

from benchmarks.mutant_tests import Naming
from benchmarks.mutations import Mutant, mutants_of

ROOT = Path(__file__).parent.parent
FLOORS = ("events", "projections", "lllm")
# These look at the source, measure, or need what is not in a copy.
_NO_JUDGES = "architecture|benchmark|clone|packages|readme|sdk_versions|suite|types|versions"
_SECONDS = 30.0  # of tests, as measured, that one mutant is run with
_NAMING = 12  # tests that come first, since they speak of its place
_ALIKE = 3  # of one test with many sets of arguments
_HANGS = 120.0  # seconds


class Reached:
    """Which tests reach a line, and how long each takes; of one folder with what was measured."""

    def __init__(self, folder: Path) -> None:
        self.seconds: dict[str, float] = {}
        self._naming = Naming(ROOT)
        for file in folder.glob("seconds-*.json"):
            self.seconds |= json.loads(file.read_text())
        self._lines: dict[str, dict[int, set[str]]] = defaultdict(lambda: defaultdict(set))
        for file in folder.glob("coverage-*"):
            data = coverage.CoverageData(str(file))
            data.read()
            for measured in data.measured_files():
                for line, tests in data.contexts_by_lineno(measured).items():
                    self._lines[_short(measured)][line] |= {*tests} & self.seconds.keys()

    def tests(self, mutant: Mutant) -> list[str]:
        """The tests to run a mutant with: those first that speak of its place, see `mutant_tests`,
        then quick ones of every file that has any in turn. A line that is executed at import is
        judged by all tests of its module, and by those that speak of it."""
        lines = self._lines.get(mutant.path, {})
        span = range(mutant.start[0], mutant.end[0] + 1)
        found = {test for line in span for test in lines.get(line, ())}
        at_import = not found and any(line in lines for line in span)
        if at_import:
            found = {test for tests in lines.values() for test in tests}
        words = self._naming.words(mutant.path, mutant.start[0], mutant.end[0])
        speaking = self.seconds.keys() if at_import and found else found
        scores = {test: self._naming.score(test, words) for test in speaking}
        named: dict[str, list[str]] = defaultdict(list)
        for test in sorted(speaking, key=lambda test: (-scores[test], self.seconds[test], test)):
            named[test.partition("[")[0]].append(test)
        by_file: dict[str, list[str]] = defaultdict(list)
        for test in sorted(found, key=lambda test: (self.seconds[test], test)):
            by_file[test.partition("::")[0]].append(test)
        turns = sorted(
            (rank, self.seconds[test], test)
            for tests in by_file.values()
            for rank, test in enumerate(tests)
        )
        chosen: list[str] = []
        left = _SECONDS
        first = chain(*(tests[:_ALIKE] for tests in islice(named.values(), _NAMING)))
        for test in dict.fromkeys([*first, *(test for _, _, test in turns)]):
            left -= self.seconds[test]
            if left < 0 and chosen:
                break
            chosen.append(test)
        return chosen


def _short(measured: str) -> str:
    parts = Path(measured).parts
    return "/".join(parts[parts.index("checkout") + 1 :])


class _Contexts:
    """The plugin of the first run: names each test to coverage, and notes those that pass."""

    seconds: dict[str, float] = {}  # noqa: RUF012  # one run in a process

    def __init__(self) -> None:
        self._tracer = sys.gettrace()  # coverage's

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        """Everything up to the next test belongs to this one."""
        running = coverage.Coverage.current()
        assert running is not None
        if sys.gettrace() is not self._tracer:  # a test that traces left its own, or none
            sys.settrace(self._tracer)
        running.switch_context(item.nodeid)
        return (yield)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """A test is asked later if it passed and is no suspect of the machine's load."""
        if report.when == "call" and report.passed:
            self.seconds[report.nodeid] = report.duration


def _measure(folder: Path, share: str, tests: list[str]) -> None:
    """One share of the first run; in a process of its own, in the copy."""
    running = coverage.Coverage(data_file=str(folder / f"coverage-{share}"), source=[*FLOORS])
    running.start()
    options = ["-q", "-m", "not slow", "-p", "no:cacheprovider", "--timeout-method=signal"]
    pytest.main([*options, *tests], plugins=[_Contexts()])
    running.stop()
    running.save()
    (folder / f"seconds-{share}.json").write_text(json.dumps(_Contexts.seconds))


def _run(folder: Path, *arguments: str, seconds: float | None = None) -> int | None:
    """Run Python on a copy; its exit code, None where it takes too long."""
    child = subprocess.Popen(
        [sys.executable, *arguments], cwd=folder, start_new_session=True,
        env=os.environ | {"PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"},
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        return child.wait(seconds)
    except subprocess.TimeoutExpired:
        return None
    finally:
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)  # and whatever its tests left
        child.wait()


def _is_killed(checkouts: SimpleQueue[Path], reached: Reached, mutant: Mutant) -> bool:
    folder = checkouts.get()
    file = folder / mutant.path
    source = file.read_text()
    try:
        file.write_text(mutant.text(source))
        arguments = ("-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "--timeout=60")
        return _run(folder, *arguments, *reached.tests(mutant), seconds=_HANGS) != 0
    finally:
        file.write_text(source)
        checkouts.put(folder)


def _places(only: str, kind: str) -> dict[str, list[Mutant]]:
    """By their kinds, of the files and kinds that two regular expressions find."""
    kinds: dict[str, list[Mutant]] = defaultdict(list)
    for floor in FLOORS:
        for file in sorted((ROOT / floor).rglob("*.py")):
            path = str(file.relative_to(ROOT))
            for mutant in mutants_of(path, file.read_text()) if re.search(only, path) else ():
                if re.search(kind, mutant.kind):
                    kinds[mutant.kind].append(mutant)
    return kinds


def _drawn(reached: Reached, kinds: dict[str, list[Mutant]], count: int, seed: int) -> list[Mutant]:
    """Places that some test reaches, each kind as often as any other while it has some left."""
    chance = random.Random(seed)
    for _, places in sorted(kinds.items()):
        chance.shuffle(places)
    drawn: list[Mutant] = []
    while len(drawn) < count and any(kinds.values()):
        for _, places in sorted(kinds.items()):
            while places and not reached.tests(places[-1]):
                places.pop()
            if places and len(drawn) < count:
                drawn.append(places.pop())
    return drawn


@click.command()
@click.option("--count", default=40, help="Mutants to try.", show_default=True)
@click.option("--seed", default=1, help="Which ones.", show_default=True)
@click.option("--only", default="", help="Files whose path this regular expression finds.")
@click.option("--kind", default="", help="Kinds of faults that this regular expression finds.")
@click.option("--jobs", default=2, help="Processes at a time.", show_default=True)
@click.option("--map", "kept", type=click.Path(path_type=Path), help="See above.")
@click.argument("tests", nargs=-1)
def main(
    count: int,
    seed: int,
    only: str,
    kind: str,
    jobs: int,
    kept: Path | None,
    tests: tuple[str, ...],
) -> None:
    """Try mutants with TESTS, files below the root; by default with all that can judge."""
    chosen = tests or tuple(
        str(file.relative_to(ROOT))
        for file in sorted((ROOT / "tests").rglob("test_*.py"))
        if not re.search(_NO_JUDGES, file.name)
    )
    with tempfile.TemporaryDirectory(prefix="lllm-mutants-") as name:
        checkouts: SimpleQueue[Path] = SimpleQueue()
        folders = [Path(name, str(job), "checkout") for job in range(jobs)]
        for folder in folders:
            shutil.copytree(ROOT, folder, ignore=shutil.ignore_patterns(".*", "*.egg-info"))
            checkouts.put(folder)
        measured = (kept or Path(name, "map")).resolve()
        with ThreadPoolExecutor(jobs) as pool:
            if not measured.exists():
                measured.mkdir(parents=True)
                shares = [
                    pool.submit(_run, folder, "-m", "benchmarks.mutants", f"--measure={measured}",
                                str(number), *chosen[number::jobs])
                    for number, folder in enumerate(folders)
                ]  # fmt: skip
                for share in shares:
                    share.result()
            reached = Reached(measured)
            drawn = _drawn(reached, _places(only, kind), count, seed)
            killed = pool.map(partial(_is_killed, checkouts, reached), drawn)
            _report(drawn, killed, seed, f"{len(reached.seconds):,} tests of {len(chosen)} files")


def _report(drawn: list[Mutant], killed: Iterator[bool], seed: int, judges: str) -> None:
    print(f"# {len(drawn)} mutants, seed {seed}, judged by {judges}\n", flush=True)
    kinds: dict[str, list[bool]] = defaultdict(list)
    for mutant, is_killed in zip(drawn, killed, strict=True):
        kinds[mutant.kind].append(is_killed)
        if not is_killed:
            print(f"```diff\n{mutant.diff((ROOT / mutant.path).read_text())}\n```\n", flush=True)
    print("| kind | killed | of |\n| --- | --- | --- |")
    for kind, outcomes in [*sorted(kinds.items()), ("all", [*chain(*kinds.values())])]:
        print(f"| {kind} | {sum(outcomes)} | {len(outcomes)} |")


if __name__ == "__main__":
    if len(sys.argv) > 2 and sys.argv[1].startswith("--measure="):
        _measure(Path(sys.argv[1].partition("=")[2]), sys.argv[2], sys.argv[3:])
    else:
        main()
