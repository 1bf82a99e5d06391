"""Makes the pictures of the README from the demo, as SVG:

    python docs/pictures.py

They are what `lllm show` and `lllm cost` print in a terminal, drawn by rich
(https://rich.readthedocs.io/en/stable/console.html#exporting).
"""

from __future__ import annotations

import fcntl
import io
import json
import os
import re
import struct
import subprocess
import sys
import tempfile
import termios
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

FOLDER = Path(__file__).parent
LLLM = Path(sys.executable).with_name("lllm")
COLUMNS = 112


def in_terminal(*arguments: str) -> str:
    """What a command of lllm prints in a terminal, with the codes of its colours."""
    reads, writes = os.openpty()
    fcntl.ioctl(writes, termios.TIOCSWINSZ, struct.pack("HHHH", 100, COLUMNS, 0, 0))
    told = os.environ | {"TERM": "xterm-256color", "COLORTERM": "truecolor"}
    with subprocess.Popen([LLLM, *arguments], stdout=writes, env=told):
        os.close(writes)
        printed = b""
        while True:
            try:
                piece = os.read(reads, 65536)
            except OSError:  # Linux says so where the other side is closed
                break
            if not piece:
                break
            printed += piece
    os.close(reads)
    return printed.decode().replace("\r\n", "\n")


def draw(name: str, title: str, printed: str) -> None:
    """Write what was printed as docs/NAME.svg."""
    console = Console(file=io.StringIO(), record=True, width=COLUMNS, highlight=False)
    console.print(Text.from_ansi(printed.rstrip()))
    svg = console.export_svg(title=title, theme=MONOKAI, unique_id=name)
    svg = re.sub(r"\s*@font-face \{.*?\}", "", svg, flags=re.DOTALL)  # loads nothing from elsewhere
    (FOLDER / f"{name}.svg").write_text(svg + "\n")


def main() -> None:
    """Run the demo, and draw its first session and its costs."""
    with tempfile.TemporaryDirectory() as made:
        os.environ["LLLM_STORE"] = str(Path(made) / "runs.db")
        subprocess.run([LLLM, "demo"], stdout=subprocess.DEVNULL, check=True)
        listed = subprocess.run([LLLM, "ls", "--json"], stdout=subprocess.PIPE, check=True)
        first = json.loads(listed.stdout)[-1]["session_id"]
        draw("show", f"lllm show {first[:12]}", in_terminal("show", first, "--utc"))
        by = ("--by", "tag:customer", "--by", "tactic")
        draw("cost", f"lllm cost {' '.join(by)}", in_terminal("cost", *by))


if __name__ == "__main__":
    main()
