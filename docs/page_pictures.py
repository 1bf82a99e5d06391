"""Makes the pictures of the web page from the demo, as PNG:

    python docs/page_pictures.py

They are what a headless Chromium shows of the list, of one session and of the costs.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright

FOLDER = Path(__file__).parent
LLLM = Path(sys.executable).with_name("lllm")
NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
WIDTH = 1280  # pixels


def main() -> None:
    """Run the demo, and take a picture of its list, of its first session and of its costs."""
    browser = next(filter(None, map(shutil.which, NAMES)))
    with tempfile.TemporaryDirectory() as made:
        os.chdir(made)
        os.environ["LLLM_STORE"] = "runs.db"
        subprocess.run([LLLM, "demo"], stdout=subprocess.DEVNULL, check=True)
        listed = subprocess.run([LLLM, "ls", "--json"], stdout=subprocess.PIPE, check=True)
        first = json.loads(listed.stdout)[-1]["session_id"]
        with subprocess.Popen(
            [LLLM, "web", "--port", "0", "--utc"], stdout=subprocess.PIPE, text=True
        ) as server, sync_playwright() as playwright:  # fmt: skip
            assert server.stdout is not None
            address, _, token = server.stdout.readline().strip().partition("?")
            started = playwright.chromium.launch(executable_path=browser, args=["--no-sandbox"])
            for name, path, height in (
                ("web-list", "", 440), ("web-session", f"sessions/{first}", 700),
                ("web-cost", "cost?by=tag%3Acustomer&each_day=yes", 520),
            ):  # fmt: skip
                page = started.new_page(viewport={"width": WIDTH, "height": height})
                page.goto(f"{address}{path}{'&' if '?' in path else '?'}{token}")
                if name != "web-cost":
                    page.wait_for_selector("#live.on")
                page.wait_for_timeout(500)  # milliseconds, until the sums are there
                page.screenshot(path=FOLDER / f"{name}.png")
                page.close()
            started.close()
            server.terminate()


if __name__ == "__main__":
    main()
