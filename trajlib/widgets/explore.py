"""The studios as one local page, without Jupyter: a small tornado server on 127.0.0.1.

The page runs the same scripts as JupyterLab does. Each open studio has a WebSocket: clicks come in, and the traits of
its `Canvas` go out, as JSON and then its bytes, one message each. A model is loaded when a studio first needs it.
"""

import asyncio
import json
import webbrowser
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import numpy as np
import tornado.web
import tornado.websocket

from trajlib.data.clips import split
from trajlib.data.trajectories import FAMILIES
from trajlib.widgets.base import Canvas
from trajlib.widgets.code_map import code_colourings
from trajlib.widgets.corruption_studio import CorruptionStudio, CorruptionView, NetworkReader
from trajlib.widgets.interpolation_studio import InterpolationStudio
from trajlib.widgets.mask_studio import MaskStudio, mask_studio
from trajlib.widgets.path_studio import PathStudio, path_studio
from trajlib.widgets.token_explorer import TokenExplorer
from trajlib.widgets.token_index import TokenIndex
from trajlib.widgets.trajectory_studio import TrajectoryStudio
from trajlib.zoo import checkpoints

HOST = "127.0.0.1"
CLIPS = 128  # of the validation split
SYNCED = ("kind", "fixed", "still", "videos", "patches", "picture", "view")
PAGE = Path(__file__).with_name("explore.html")


@cache
def _model(name):
    return checkpoints.load(name)[0]


@cache
def _clips():
    return split("validation").batch(range(CLIPS))


@cache
def _index(tokenizer="tokenizer"):
    return TokenIndex(_model(tokenizer), _clips())


def _clip_of(family):
    return int(np.flatnonzero(_clips().labels.numpy() == FAMILIES.index(family))[0])


def _explorer(tokenizer="tokenizer"):
    index = _index(tokenizer)
    layouts = {"patches": index.patch_layout(), "codes": index.code_layout()}
    return TokenExplorer(index, _clip_of("circular"), None, layouts, code_colourings(index))


def _bits():
    return _explorer("tokenizer_lfq18")


def _interpolation():
    return InterpolationStudio(_index(), _clip_of("circular"), _clip_of("linear"), _model("transformer"))


def _masks():
    return mask_studio(_model("plain_transformer"), _model("tokenizer"), _clips(), task="IPC")


def _paths():
    return path_studio(_model("tokenizer"), _model("transformer"))


def _corruptions():
    networks = {"3D CNN on pixels": (False, "simple_3dcnn"), "transformer on tokens": (True, "token_classifier")}
    readers = {name: NetworkReader(tokens, _model(model)) for name, (tokens, model) in networks.items()}
    return CorruptionStudio(CorruptionView(_model("tokenizer"), readers))


STUDIOS = {  # name in the address: the text of its button, its class, what makes one
    "trajectories": ("make a clip", TrajectoryStudio, TrajectoryStudio),
    "tokens": ("explore its tokens", TokenExplorer, _explorer),
    "bits": ("flip one of 18 bits", TokenExplorer, _bits),
    "interpolation": ("from clip to clip", InterpolationStudio, _interpolation),
    "masks": ("mask and predict", MaskStudio, _masks),
    "paths": ("draw a path", PathStudio, _paths),
    "corruptions": ("corrupt a clip", CorruptionStudio, _corruptions),
}


def message(traits):
    """Traits {name: value} -> JSON in which {"bytes": i} stands for the i-th of the bytes that follow, and these."""
    found = []

    def plain(value):
        if isinstance(value, bytes):
            found.append(value)
            return {"bytes": len(found) - 1}
        if isinstance(value, dict):
            return {str(key): plain(item) for key, item in value.items()}
        return [plain(item) for item in value] if isinstance(value, (list, tuple)) else value

    traits = plain(traits)
    return json.dumps({"traits": traits, "bytes": len(found)}, allow_nan=False), found


class _Local:
    """Refuses requests that came here under another name, as of a page elsewhere whose name leads to this machine."""

    def prepare(self):
        if self.request.host_name not in (HOST, "localhost"):
            raise tornado.web.HTTPError(403)

    def set_default_headers(self):
        self.set_header("Cache-Control", "no-store")


class _Page(_Local, tornado.web.RequestHandler):
    def get(self):
        names = json.dumps({name: text for name, (text, *_) in STUDIOS.items()})
        self.write(PAGE.read_text(encoding="utf-8").replace("{{studios}}", names))


class _Script(_Local, tornado.web.RequestHandler):
    def get(self, name):
        if name not in STUDIOS:
            raise tornado.web.HTTPError(404)
        self.set_header("Content-Type", "text/javascript; charset=utf-8")
        self.write(str(STUDIOS[name][1]._esm))


class _Studio(_Local, tornado.websocket.WebSocketHandler):
    """One open studio. A thread apart answers, one click after the other: the page stays alive meanwhile."""

    def initialize(self, worker):
        self.worker, self.canvas = worker, None

    async def open(self, name):
        self.set_nodelay(True)  # an answer is several messages; none may wait until the one before is acknowledged
        if name not in STUDIOS:
            self.close(reason="no such studio")
            return
        try:
            self.canvas = await self._work(STUDIOS[name][2])
        except checkpoints.ArtifactError as error:
            await self.write_message(json.dumps({"error": str(error)}))
            return
        await self._send({name: getattr(self.canvas, name) for name in SYNCED})

    async def on_message(self, text):
        changed = {}
        self.canvas.observe(lambda change: changed.update({change.name: change.new}), SYNCED)
        await self._work(self.canvas.receive, json.loads(text))
        self.canvas.unobserve_all()
        await self._send(changed)

    async def _work(self, act, *given):
        return await asyncio.get_running_loop().run_in_executor(self.worker, act, *given)

    async def _send(self, traits):
        text, parts = message(traits)
        try:
            await self.write_message(text)
            for part in parts:
                await self.write_message(part, binary=True)
        except tornado.websocket.WebSocketClosedError:
            pass

    def on_close(self):
        if isinstance(self.canvas, Canvas):
            self.canvas.close()


def application():
    """The tornado application: the page, the studios' scripts, and a WebSocket for each open studio."""
    worker = {"worker": ThreadPoolExecutor(1)}
    pages = [(r"/", _Page), (r"/script/(\w+)\.js", _Script), (r"/studio/(\w+)", _Studio, worker)]
    return tornado.web.Application(pages)


async def serve(port, ready=lambda address: None):
    """Serve until cancelled; `ready(address)` is called once the page can be opened. Port 0: any that is free."""
    server = application().listen(port, HOST)
    (socket,) = server._sockets.values()
    ready(f"http://{HOST}:{socket.getsockname()[1]}/")
    await asyncio.Event().wait()


def explore(port=0, browser=True):
    """Serve the studios, and open them in the browser; ends with Ctrl+C. OSError if the port is taken."""

    def ready(address):
        print(f"The studios are at {address} (this machine only). Ctrl+C ends them.", flush=True)
        if browser:
            webbrowser.open(address)

    asyncio.run(serve(port, ready))
