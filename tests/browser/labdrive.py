"""Real JupyterLab in headless Chromium: open a notebook, run it, touch its widgets, look at what changed.

    with lab(root, home) as url, browser() as chromium, opened(chromium, url, "01_x.ipynb") as nb:
        nb.run_all()
        nb.changes("img.studio", lambda: nb.press(nb.sliders.first, "ArrowRight"))
        assert nb.complaints() == []

Nothing here needs the network, and the browser cannot reach it: every name but 127.0.0.1 is unknown to it.
"""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from trajlib.course.kernel import kernel_variables, write_kernelspec

TOKEN = "course-test"
OPEN_SECONDS, RUN_SECONDS, CHANGE_SECONDS = 180, 900, 40
TEST_SECONDS = 2 * OPEN_SECONDS + RUN_SECONDS + 60
SHOTS = Path(__file__).resolve().parents[2] / "runs" / "screenshots"
ARGUMENTS = [
    "--no-sandbox",  # CI runs as root
    "--disable-dev-shm-usage",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    "--disable-background-networking",
    "--disable-component-update",
]
STEADY = """() => {
    const n = document.querySelectorAll('.jp-CodeCell').length, w = window;
    if (w.__cells !== n) { w.__cells = n; w.__since = performance.now(); }
    return n && performance.now() - w.__since > 1500 ? n : 0 }"""
IDLE = "() => /\\| Idle/.test(document.querySelector('#jp-main-statusbar')?.innerText || '')"
EXECUTED = """([n, failed]) => document.querySelector(failed) ||
    [...document.querySelectorAll('.jp-CodeCell .jp-InputPrompt')]
    .filter(e => /^\\[\\d+\\]:$/.test(e.textContent.trim())).length >= n"""
PIXELS = """picture => {
    const width = picture.naturalWidth ?? picture.width, height = picture.naturalHeight ?? picture.height;
    if (picture.complete === false || !width || !height) return "";
    const copy = Object.assign(document.createElement('canvas'), {width, height});
    copy.getContext('2d').drawImage(picture, 0, 0);
    return copy.toDataURL() }"""
FAILED = '.jp-OutputArea-output[data-mime-type="application/vnd.jupyter.error"]'
ALERT = '[role="alert"]'  # where a widget shows an error of its callbacks
STDERR = '.jp-RenderedText[data-mime-type="application/vnd.jupyter.stderr"]'


def chromium_path() -> str | None:
    """The browser: what CHROME names, else the first that is installed."""
    named = os.environ.get("CHROME")
    return named or next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def bare_copy(notebook: Path, root: Path) -> Path:
    """A copy of `notebook` in `root` without outputs: stored prompts would make it look executed."""
    nb = json.loads(notebook.read_text(encoding="utf-8"))
    for cell in nb["cells"]:
        if cell["cell_type"] == "code":
            cell["outputs"], cell["execution_count"] = [], None
    copy = root / notebook.name
    copy.write_text(json.dumps(nb), encoding="utf-8")
    return copy


@contextlib.contextmanager
def lab(root: Path, home: Path) -> Iterator[str]:
    """JupyterLab on the folder `root`, its settings and kernels under `home`: a user's own cannot change the test."""
    write_kernelspec(home / "data")
    _settings(home, "notebook-extension", "tracker", {"windowingMode": "none"})  # cells off screen are drawn, too
    silent = {"checkForUpdates": False, "doNotDisturbMode": True, "fetchNews": "false"}
    _settings(home, "apputils-extension", "notification", silent)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ServerApp.ip=127.0.0.1",
        f"--ServerApp.port={port}", "--ServerApp.port_retries=0", f"--IdentityProvider.token={TOKEN}",
        f"--ServerApp.root_dir={root}", "--LabApp.news_url=None",
        "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
    ]  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    log = home / "lab.log"
    with log.open("w") as sink:
        server = subprocess.Popen(command, env=_environment(home), stdout=sink, stderr=sink)
        try:
            _wait_for(url, server, log)
            yield url
        finally:
            server.terminate()
            try:
                server.wait(15)
            except subprocess.TimeoutExpired:
                server.kill()


def _settings(home: Path, extension: str, plugin: str, values: dict) -> None:
    file = home / "settings" / "@jupyterlab" / extension / f"{plugin}.jupyterlab-settings"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(values))


def _environment(home: Path) -> dict[str, str]:
    """The kernels' usual variables, and no results file: a reader in JupyterLab has none."""
    folders = {
        "JUPYTER_CONFIG_DIR": "config", "JUPYTER_RUNTIME_DIR": "runtime", "JUPYTERLAB_SETTINGS_DIR": "settings",
        "JUPYTERLAB_WORKSPACES_DIR": "workspaces", "IPYTHONDIR": "ipython", "JUPYTER_PATH": "data",
    }  # fmt: skip
    env = os.environ | kernel_variables(Path()) | {name: str(home / sub) for name, sub in folders.items()}
    for name in ("TRAJLIB_RESULTS", "MPLBACKEND"):
        env.pop(name, None)
    return env


def _wait_for(url: str, server: subprocess.Popen, log: Path) -> None:
    deadline = time.monotonic() + OPEN_SECONDS
    while time.monotonic() < deadline:
        try:
            urllib.request.urlopen(f"{url}/api/status?token={TOKEN}", timeout=1)
            return
        except OSError:
            if server.poll() is not None:
                break
            time.sleep(0.2)
    raise RuntimeError(f"JupyterLab did not start:\n{log.read_text()[-2000:]}")


@contextlib.contextmanager
def browser() -> Iterator:
    """Headless Chromium, without a network."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        chromium = play.chromium.launch(executable_path=chromium_path(), args=ARGUMENTS)
        try:
            yield chromium
        finally:
            chromium.close()


@contextlib.contextmanager
def opened(chromium, url: str, name: str) -> Iterator["Notebook"]:
    """The notebook `name` of the lab at `url`, open in a page of its own, its kernel ready."""
    page = chromium.new_page(viewport={"width": 1280, "height": 1000})
    try:
        yield Notebook(page, url, name)
    finally:
        page.close()


class Widgets:
    """A page with widgets. `outside` collects requests to other machines, `errors` every exception that is reported."""

    page: Any
    outside: list[str]
    errors: list[str]

    def _request(self, request) -> None:
        if "//127.0.0.1" not in request.url and not request.url.startswith(("data:", "blob:")):
            self.outside.append(request.url)

    def complaints(self) -> list[str]:
        """Errors and warnings, shown or not, and requests to other machines."""
        shown = [text for kind in (FAILED, STDERR, ALERT) for text in self.page.locator(kind).all_inner_texts()]
        return [*filter(None, shown), *self.errors, *self.outside]

    def press(self, locator, key: str) -> None:
        """Focus the element and press a key."""
        locator.scroll_into_view_if_needed()
        locator.focus()
        self.page.keyboard.press(key)

    def picture(self, selector: str) -> str:
        """The pixels of the first <img> or <canvas> that matches, as a data URL; "" while it is loading.

        Not a screenshot: that one also changes when a shadow, a toolbar or a scroll bar passes over the picture.
        """
        return self.page.locator(selector).first.evaluate(PIXELS)

    def steady_picture(self, selector: str) -> str:
        """The picture once it has stayed the same for half a second."""
        since, last = time.monotonic(), ""
        deadline = since + CHANGE_SECONDS
        while time.monotonic() < deadline:
            now = self.picture(selector)
            if now != last:
                since, last = time.monotonic(), now
            elif now and time.monotonic() - since > 0.5:
                return now
            time.sleep(0.05)
        raise AssertionError(f"{selector} shows no steady picture within {CHANGE_SECONDS} s")

    def changes(self, selector: str, act: Callable[[], object], seconds: float = CHANGE_SECONDS) -> float:
        """Do `act`: the picture at `selector` must change in time. Returns the milliseconds that it took."""
        before = self.steady_picture(selector)
        act()
        start = time.monotonic()
        while time.monotonic() - start < seconds:
            if self.picture(selector) not in ("", before):
                return (time.monotonic() - start) * 1000
            time.sleep(0.02)
        raise AssertionError(f"{selector} did not change within {seconds:g} s")

    def answered(self, canvas: str, act: Callable[[], object], times: int = 1) -> float:
        """Do `act`: the canvas must answer, so many times. Returns the milliseconds that the last answer took."""
        box = self.page.locator(canvas).first
        due = int(box.get_attribute("data-seq")) + times
        act()
        ready = "([box, due]) => Number(box.dataset.seq) >= due && box.getAttribute('aria-busy') === 'false'"
        self.page.wait_for_function(ready, arg=[box.element_handle(), due], timeout=CHANGE_SECONDS * 1000)
        return float(box.get_attribute("data-ms"))

    def pixels(self, selector: str) -> np.ndarray:
        """What the first canvas that matches holds: (height, width, 3) uint8."""
        script = "c => [c.height, c.width, ...c.getContext('2d').getImageData(0, 0, c.width, c.height).data]"
        height, width, *values = self.page.locator(selector).first.evaluate(script)
        return np.array(values, np.uint8).reshape(height, width, 4)[..., :3]

    def snapshot(self, file: Path, selector: str | None = None) -> None:
        """Save a picture of the page, or of the part around the first `selector`."""
        file.parent.mkdir(parents=True, exist_ok=True)
        if selector:
            self.page.locator(selector).first.scroll_into_view_if_needed()
        self.page.screenshot(path=file)


class Notebook(Widgets):
    """An open notebook. `outside` collects requests to other machines, `errors` every exception the kernel reports,
    those in widget callbacks included (JupyterLab shows no trace of them)."""

    def __init__(self, page, url: str, name: str):
        self.page, self.outside, self.errors = page, [], []
        page.on("request", self._request)
        page.on("websocket", lambda socket: socket.on("framereceived", self._message))
        page.goto(f"{url}/doc/tree/{name}?token={TOKEN}&reset", timeout=OPEN_SECONDS * 1000)
        page.wait_for_selector(".jp-Notebook .jp-CodeCell", timeout=OPEN_SECONDS * 1000)
        page.wait_for_function(IDLE, timeout=OPEN_SECONDS * 1000)
        # cells are added a few at a time: wait until their number is steady
        self.cells = page.wait_for_function(STEADY, polling=100, timeout=OPEN_SECONDS * 1000).json_value()

    def _message(self, payload: bytes | str) -> None:
        data = payload if isinstance(payload, bytes) else payload.encode()
        if b'"msg_type": "error"' in data or b'"msg_type":"error"' in data:
            start = data.find(b'"ename"')
            self.errors.append(data[start : start + 300].decode(errors="replace"))

    def run_all(self, seconds: float = RUN_SECONDS) -> None:
        """Run every cell by the menu, and wait until each has its number. AssertionError if a cell fails."""
        self.page.click(".jp-Notebook .jp-CodeCell >> nth=0")
        self.page.keyboard.press("Escape")
        self.page.click('.lm-MenuBar-item:has-text("Run")')
        self.page.click('.lm-Menu-item[data-command="runmenu:run-all"]')
        self.page.wait_for_function(EXECUTED, arg=[self.cells, FAILED], timeout=seconds * 1000)
        self.page.wait_for_function(IDLE, timeout=seconds * 1000)
        assert self.page.locator(FAILED).all_inner_texts() == []

    def save(self) -> None:
        """Save by the menu's command, and wait until the mark of unsaved changes has gone."""
        self.page.keyboard.press("Escape")
        self.page.keyboard.press("Control+s")
        self.page.wait_for_function("() => !document.querySelector('.jp-mod-dirty')", timeout=CHANGE_SECONDS * 1000)

    def end_kernels(self) -> None:
        """End all kernels, as a restart of the machine does."""
        ended = """async (token) => { for (const session of await (await fetch(`/api/sessions?token=${token}`)).json())
            await fetch(`/api/sessions/${session.id}?token=${token}`, {method: "DELETE",
                headers: {Authorization: `token ${token}`}}) }"""
        self.page.evaluate(ended, TOKEN)

    def first_complaints(self, seconds: float = 20) -> list[str]:
        """`complaints`, as soon as there are any: on a busy machine a page shows an error late."""
        end = time.monotonic() + seconds
        while not (found := self.complaints()) and time.monotonic() < end:
            self.page.wait_for_timeout(100)
        return found

    @property
    def sliders(self):
        """The handles of all ipywidgets sliders, in order."""
        return self.page.locator(".widget-slider .noUi-handle")
