"""Downloads from a server on 127.0.0.1 that behaves well and badly."""

import hashlib
import io
import re
import socketserver
import sys
import threading
import time
from typing import Any

import pytest

from genre_embeddings.data.sources import download
from genre_embeddings.data.sources.download import cache_folder, fetch
from genre_embeddings.errors import InputError

BODY = bytes(range(250)) * 1600
HALF = BODY[:250_000]
MD5 = f"md5:{hashlib.md5(BODY).hexdigest()}"
SHA = f"sha256:{hashlib.sha256(BODY).hexdigest()}"


def answer(body: bytes = BODY, status: str = "200 OK", size: int = -1) -> bytes:
    """An answer as it is sent; `size` is the announced length if it is not the right one."""
    length = f"Content-Length: {len(body) if size < 0 else size}"
    return f"HTTP/1.1 {status}\r\nConnection: close\r\n{length}\r\n\r\n".encode() + body


class Server(socketserver.ThreadingTCPServer):
    """Sends its answer, and waits before it closes the connection."""

    daemon_threads = True
    block_on_close = False
    answer = answer()
    stall = 0.0  # seconds
    asked = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/ml-1m.zip"

    def finish_request(self, request: Any, _: object) -> None:
        request.recv(2**16)
        self.asked += 1
        request.sendall(self.answer)
        time.sleep(self.stall)

    def handle_error(self, *_: object) -> None:
        """The tests expect clients that hang up."""


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("GENRE_EMBEDDINGS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return tmp_path / "cache"


@pytest.fixture
def server():
    with Server(("127.0.0.1", 0), socketserver.BaseRequestHandler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_download_into_the_cache(server, cache, capfd, monkeypatch):
    path = fetch(server.url, MD5)
    assert (path, [*cache.iterdir()]) == (cache / "ml-1m.zip", [path])
    assert path.read_bytes() == BODY
    assert capfd.readouterr() == ("", f"Downloading {server.url} to {cache}\n")
    assert path.stat().st_mode & 0o777 == 0o644
    assert fetch(server.url, SHA) == path  # from the cache
    assert server.asked == 1
    path.write_bytes(HALF)
    with pytest.raises(InputError) as error:
        fetch(server.url, SHA)
    assert str(error.value) == (
        f"{path} does not have the checksum {SHA}. Delete it, and the next run downloads it again."
    )
    path.unlink()
    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(sys, "stderr", terminal)
    fetch(server.url, MD5)
    assert "100%" in terminal.getvalue()


WRONG = f"what arrived does not have the checksum {MD5}"
BROKEN = r"the connection failed \({}\)"


@pytest.mark.parametrize(
    ("sent", "stall", "message"),
    [
        (answer(b"", "404 Not Found"), 0, "404 Client Error: Not Found"),
        (answer(b"<html></html>"), 0, WRONG),
        (b"HTTP/1.1 200 OK\r\n\r\n" + HALF, 0, WRONG),
        (answer(HALF, size=len(BODY)), 0, BROKEN.format("ChunkedEncodingError")),
        (b"\0" * 500, 0, BROKEN.format("ConnectionError")),
        (answer(HALF, size=len(BODY)), 2, BROKEN.format(r"\w+")),
    ],
)
def test_an_answer_that_is_not_the_archive(server, cache, monkeypatch, sent, stall, message):
    server.answer, server.stall = sent, stall
    monkeypatch.setattr(download, "TIMEOUTS", (5, 0.3 if stall else 5))
    with pytest.raises(InputError) as error:
        fetch(server.url, MD5)
    start = f"{server.url} cannot be downloaded to {cache / 'ml-1m.zip'}: "
    found = re.fullmatch(rf"{start}{message}.*drop ml-1m.zip into data/raw/ .*", str(error.value))
    assert found
    assert not cache.exists() or [*cache.iterdir()] == []


def test_a_place_or_a_server_that_is_not_there(server, cache, monkeypatch):
    (cache.parent / "file").touch()
    monkeypatch.setenv("GENRE_EMBEDDINGS_CACHE", str(cache.parent / "file"))
    with pytest.raises(InputError, match="make room, correct the permissions, or set GENRE_EMB"):
        fetch(server.url, MD5)
    monkeypatch.delenv("GENRE_EMBEDDINGS_CACHE")
    assert "genre-embeddings" in cache_folder().parts
