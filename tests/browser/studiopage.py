"""The studios' own page in headless Chromium: `python -m trajlib explore`, and one studio of it."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator

import labdrive


@contextlib.contextmanager
def served() -> Iterator[str]:
    """The address of a server of the studios, in a process of its own."""
    command = [sys.executable, "-m", "trajlib", "explore", "--no-browser"]
    threads = {name: os.environ.get(name, "1") for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | threads)
    try:
        words = server.stdout.readline().split()
        if "at" not in words:
            raise RuntimeError(f"the page of the studios did not start: {' '.join(words) or 'it said nothing'}")
        yield words[words.index("at") + 1]
    finally:
        server.terminate()
        server.wait(15)


class Studio(labdrive.Widgets):
    """One studio of the page at `address`, opened in a window of `width` x `height` pixels."""

    def __init__(self, chromium, address: str, name: str, width: int = 1280, height: int = 800, **context):
        self.page = chromium.new_context(viewport={"width": width, "height": height}, **context).new_page()
        self.outside, self.errors = [], []
        self.page.on("request", self._request)
        self.page.on("console", lambda message: self.errors.append(message.text) if message.type == "error" else None)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.goto(f"{address}#{name}", timeout=labdrive.OPEN_SECONDS * 1000)
        self.page.wait_for_selector(".tl[aria-busy=false][data-seq]", timeout=labdrive.OPEN_SECONDS * 1000)

    def close(self) -> None:
        self.page.context.close()
