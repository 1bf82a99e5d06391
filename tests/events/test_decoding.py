"""A type that several threads meet for the first time at once."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import lllm
import lllm.events
import lllm.projections

# Each round has a type of its own, large enough that another thread comes in between.
_MEET = """
import sys, threading, types
sys.setswitchinterval(1e-6)
from lllm.tools.json_schema import read_json

SOURCE = "from __future__ import annotations\\nimport msgspec\\n"
SOURCE += "class Inner(msgspec.Struct):\\n"
SOURCE += "".join(f"    inner{n}: str | int | None = None\\n" for n in range(30))
SOURCE += "class Outer(msgspec.Struct):\\n"
SOURCE += "".join(f"    outer{n}: list[Inner] | None = None\\n" for n in range(30))

def meet(barrier, kind, found):
    barrier.wait()
    found.append(read_json('{"outer29": [{"inner29": 4}]}', kind).outer29[0].inner29)
    # Python's own decoder reads a lone surrogate, and msgspec converts.
    odd = read_json('{"outer29": [{"inner29": "\\\\udc80"}]}', kind)
    found.append(odd.outer29[0].inner29)

for number in range(60):
    module = types.ModuleType(f"of{number}")
    sys.modules[module.__name__] = module
    exec(SOURCE, vars(module))
    barrier, found = threading.Barrier(4), []
    threads = [threading.Thread(target=meet, args=(barrier, module.Outer, found)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(map(ascii, found)) == ["'\\\\udc80'"] * 4 + ["4"] * 4, found
"""


def test_threads_meet_a_type() -> None:
    """The process lives, and each thread reads what was written; by msgspec alone it crashes
    within a few rounds."""
    run = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", _MEET], capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr


def test_one_way_to_a_decoder() -> None:
    """Nobody makes a decoder elsewhere."""
    makers = set()
    for package in (lllm, lllm.projections, lllm.events):
        for source in Path(package.__path__[0]).rglob("*.py"):
            for node in ast.walk(ast.parse(source.read_text())):
                if isinstance(node, ast.Call) and ast.unparse(node.func) == "msgspec.json.Decoder":
                    makers.add(source.name)
    assert makers == {"decoders.py"}
