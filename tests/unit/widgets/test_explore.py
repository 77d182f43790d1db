"""The server of the studios' own page, without a browser."""

import asyncio
import json

import pytest
from tornado.httpclient import AsyncHTTPClient, HTTPClientError, HTTPRequest
from tornado.websocket import websocket_connect

from trajlib.widgets import explore


def talk(conversation):
    """Run `conversation(port)` against a server of its own."""

    async def run():
        server = explore.application().listen(0, explore.HOST)
        (socket,) = server._sockets.values()
        try:
            return await conversation(socket.getsockname()[1])
        finally:
            server.stop()
            await server.close_all_connections()

    return asyncio.run(asyncio.wait_for(run(), 60))


async def received(socket):
    """The traits of one message, and its bytes."""
    message = json.loads(await socket.read_message())
    return message["traits"], [await socket.read_message() for _ in range(message["bytes"])]


def test_bytes_travel_apart_wherever_they_are():
    text, parts = explore.message({"picture": b"one", "fixed": {"map": {"sheet": b"two"}, "names": ("a", None, 1.5)}})
    assert parts == [b"one", b"two"]
    traits = {"picture": {"bytes": 0}, "fixed": {"map": {"sheet": {"bytes": 1}}, "names": ["a", None, 1.5]}}
    assert json.loads(text) == {"traits": traits, "bytes": 2}


def test_a_studio_is_opened_and_answers():
    async def conversation(port):
        socket = await websocket_connect(f"ws://127.0.0.1:{port}/studio/trajectories")
        first, _ = await received(socket)
        await socket.write_message(json.dumps({"do": "next"}))
        second, pictures = await received(socket)
        socket.close()
        return first, second, pictures

    first, second, pictures = talk(conversation)
    assert set(first) == set(explore.SYNCED)
    assert (first["view"]["values"]["seed"], second["view"]["values"]["seed"]) == (0, 1)
    assert second["view"]["seq"] == first["view"]["seq"] + 1
    assert any(picture.startswith(b"\x89PNG") for picture in pictures)
    assert "fixed" not in second, "only what changes is sent again"


def test_the_page_has_every_studio_and_their_scripts():
    async def conversation(port):
        client, address = AsyncHTTPClient(), f"http://127.0.0.1:{port}"
        page = (await client.fetch(f"{address}/")).body.decode()
        scripts = [(await client.fetch(f"{address}/script/{name}.js")).body.decode() for name in explore.STUDIOS]
        return page, scripts

    page, scripts = talk(conversation)
    assert all(f'"{name}"' in page for name in explore.STUDIOS)
    assert "http" not in page
    assert all("export default" in script for script in scripts)


@pytest.mark.parametrize("path", ["/script/none.js", "/../cli.py", "/explore.py"])
def test_nothing_else_is_served(path):
    async def conversation(port):
        await AsyncHTTPClient().fetch(f"http://127.0.0.1:{port}{path}")

    with pytest.raises(HTTPClientError, match="404"):
        talk(conversation)


@pytest.mark.parametrize("kind", ["ws", "http"])
def test_pages_from_elsewhere_are_refused(kind):
    async def conversation(port):
        if kind == "http":  # another name that leads here
            await AsyncHTTPClient().fetch(f"http://127.0.0.1:{port}/", headers={"Host": "example.org"})
        else:
            origin = {"Origin": "http://example.org"}
            await websocket_connect(HTTPRequest(f"ws://127.0.0.1:{port}/studio/trajectories", headers=origin))

    with pytest.raises(HTTPClientError, match="403"):
        talk(conversation)
