"""What tests need: servers on this machine, small tactics, watched processes."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parent.parent.parent  # of the clone
