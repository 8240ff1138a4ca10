"""Downloads, from servers on 127.0.0.1 that behave well and badly."""

import gzip
import hashlib
import io
import ipaddress
import os
import ssl
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from genre_embeddings.data.sources.download import cache_folder, fetch
from genre_embeddings.errors import InputError
from tests.conftest import ROOT

NUMBERS = b"".join(number.to_bytes(4, "big") for number in range(100_000))


def archive_of(content: bytes) -> bytes:
    """A zip archive of 400,000 bytes."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        # Without the time of day: tests that name the checksum have to have the same names.
        archive.writestr(zipfile.ZipInfo("numbers"), content[: 400_000 - 112])
    return packed.getvalue()


BODY, OTHER = archive_of(NUMBERS), archive_of(NUMBERS[::-1])
assert len(BODY) == len(OTHER) == 400_000
MD5 = hashlib.md5(BODY).hexdigest()


class Server(ThreadingHTTPServer):
    """Serves one body; `stop_after` bytes of an answer it hangs up or, with `stall`, falls silent.

    Attributes:
        raw: bytes sent in place of an answer, head and all.
        range_of: "Content-Range" of a continued answer, in place of the right one.
        longest: bytes of a continued answer at most.
        asked: the Range header of every request, None where there was none.
        started: the position of the first byte of every answer.
    """

    daemon_threads = True
    block_on_close = False

    def __init__(self, scheme: str = "http") -> None:
        self.body = BODY
        self.version: dict[str, str] = {"ETag": '"v1"'}
        self.stop_after: int | None = None
        self.stall = 0.0
        self.delay = 0.0
        self.status = 200
        self.ranges = True
        self.location = ""
        self.raw = b""
        self.range_of = ""
        self.longest: int | None = None
        self.asked: list[str | None] = []
        self.started: list[int] = []
        self.scheme = scheme
        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.server_address[1]}/ml-1m.zip"

    def handle_error(self, *_: object) -> None:
        """Clients that hang up are what is tested here."""


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        server, wanted = self.server, self.headers["Range"]
        server.asked.append(wanted)
        time.sleep(server.delay)
        if server.location:
            self.send_response(302)
            self.send_header("Location", server.location)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if server.raw:
            self.wfile.write(server.raw)
            self.close_connection = True
            return
        if server.status != 200:
            self.send_error(server.status)
            return
        start = 0
        version = self.headers["If-Range"] or ""
        same = version in server.version.values() and not version.startswith("W/")
        if wanted and same and server.ranges:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            if start >= len(server.body):
                self.send_error(416)
                return
        server.started.append(start)
        self.send_response(206 if start else 200)
        rest = server.body[start:]
        if start:
            rest, size = rest[: server.longest], len(server.body)
            extent = server.range_of or f"bytes {start}-{start + len(rest) - 1}/{size}"
            self.send_header("Content-Range", extent)
        for name, value in server.version.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(rest)))
        self.end_headers()
        self.wfile.write(rest[: server.stop_after])
        if server.stop_after is not None:
            time.sleep(server.stall)

    def log_message(self, *_args: object) -> None:
        """Keep the tests' output free of it."""


def run(server: Server) -> Iterator[Server]:
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GENRE_EMBEDDINGS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return tmp_path / "cache"


@pytest.fixture
def server() -> Iterator[Server]:
    yield from run(Server())


def left_over(cache: Path) -> set[str]:
    return {path.name for path in cache.iterdir()} - {"ml-1m.zip", "ml-1m.zip.lock"}


def test_good(server: Server, cache: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = fetch(server.url, MD5)
    assert path == cache / "ml-1m.zip"
    assert path.read_bytes() == BODY
    assert left_over(cache) == set()
    out, err = capfd.readouterr()
    assert out == ""
    assert err == f"Downloading {server.url} to {cache}\n"


def test_what_is_in_the_cache_needs_no_server(server: Server) -> None:
    first = fetch(server.url, MD5)
    assert fetch(server.url, MD5) == first
    assert fetch(server.url, None) == first
    assert len(server.asked) == 1


@pytest.mark.parametrize("md5", [MD5, None])
@pytest.mark.parametrize("content", [b"", b"damaged", BODY[:250_000]])
def test_a_damaged_file_in_the_cache_is_fetched_anew(
    server: Server, cache: Path, content: bytes, md5: str | None
) -> None:
    cache.mkdir()
    (cache / "ml-1m.zip").write_bytes(content)
    assert fetch(server.url, md5).read_bytes() == BODY


@pytest.mark.parametrize(
    "version",
    [{"ETag": '"v1"'}, {"ETag": 'W/"v1"', "Last-Modified": "Tue, 24 Sep 2024 00:00:00 GMT"}],
)
@pytest.mark.parametrize("md5", [MD5, None])
def test_a_second_try_goes_on_where_the_first_broke_off(
    server: Server, cache: Path, version: dict[str, str], md5: str | None
) -> None:
    server.version = version
    server.stop_after = 250_000
    with pytest.raises(InputError, match=r"broke off after \d.* of 400,000 bytes; the next try go"):
        fetch(server.url, md5)
    arrived = (cache / "ml-1m.zip.part").stat().st_size
    assert 0 < arrived <= 250_000
    assert not (cache / "ml-1m.zip").exists()

    server.stop_after = None
    assert fetch(server.url, md5).read_bytes() == BODY
    assert server.asked == [None, f"bytes={arrived}-"]
    assert server.started == [0, arrived]
    assert left_over(cache) == set()


def test_a_file_that_changed_meanwhile_is_fetched_from_the_start(server: Server) -> None:
    server.stop_after = 250_000
    with pytest.raises(InputError):
        fetch(server.url, None)
    server.stop_after = None
    server.body, server.version = OTHER, {"ETag": '"v2"'}
    assert fetch(server.url, None).read_bytes() == OTHER


def test_a_server_that_cannot_continue(server: Server) -> None:
    server.version, server.ranges, server.stop_after = {}, False, 250_000
    with pytest.raises(InputError, match="the next try starts anew"):
        fetch(server.url, MD5)
    server.stop_after = None
    assert fetch(server.url, MD5).read_bytes() == BODY
    assert server.asked == [None, None]


def test_a_part_that_was_complete_already(server: Server, cache: Path) -> None:
    cache.mkdir()
    (cache / "ml-1m.zip.part").write_bytes(BODY)
    (cache / "ml-1m.zip.part.version").write_text('"v1"')
    assert fetch(server.url, MD5).read_bytes() == BODY
    assert server.asked == ["bytes=400000-", None]


def test_a_wrong_checksum_leaves_nothing(server: Server, cache: Path) -> None:
    with pytest.raises(InputError, match="does not have the published MD5 checksum 0123"):
        fetch(server.url, "0123456789abcdef0123456789abcdef")
    assert {path.name for path in cache.iterdir()} == {"ml-1m.zip.lock"}


@pytest.mark.parametrize("status", [404, 503])
def test_an_error_page_is_not_the_file(server: Server, cache: Path, status: int) -> None:
    server.status = status
    with pytest.raises(InputError, match=f"cannot be downloaded: the server answers {status} "):
        fetch(server.url, None)
    assert not (cache / "ml-1m.zip").exists()


def test_an_error_page_does_not_cost_what_has_arrived(server: Server, cache: Path) -> None:
    server.stop_after = 250_000
    with pytest.raises(InputError):
        fetch(server.url, MD5)
    arrived = (cache / "ml-1m.zip.part").stat().st_size
    server.status = 503
    with pytest.raises(InputError):
        fetch(server.url, MD5)
    assert (cache / "ml-1m.zip.part").stat().st_size == arrived


def test_a_server_that_never_answers(server: Server) -> None:
    server.delay = 2
    with pytest.raises(InputError, match=r"the server was silent for 0\.2 seconds"):
        fetch(server.url, MD5, timeouts=(5, 0.2))


def test_a_server_that_stalls_midway(server: Server) -> None:
    server.stop_after, server.stall = 250_000, 2
    with pytest.raises(InputError, match=r"broke off .* the server was silent for 0\.2 seconds"):
        fetch(server.url, MD5, timeouts=(5, 0.2))
    server.stop_after = None
    assert fetch(server.url, MD5).read_bytes() == BODY
    assert server.asked[1] is not None


def test_a_slow_server_is_waited_for(server: Server) -> None:
    server.delay = 0.3
    assert fetch(server.url, MD5, timeouts=(5, 5)).read_bytes() == BODY


def test_no_network(server: Server) -> None:
    url = server.url
    server.server_close()
    with pytest.raises(InputError, match=r"cannot be downloaded: no connection to the server"):
        fetch(url, MD5)


@pytest.mark.parametrize("md5", [MD5, None])
def test_a_continued_answer_that_stops_early(server: Server, cache: Path, md5: str | None) -> None:
    """Its own length is right, and yet it is not the rest of the file."""
    server.stop_after = 250_000
    with pytest.raises(InputError):
        fetch(server.url, md5)
    server.stop_after, server.longest = None, 50_000
    arrived = (cache / "ml-1m.zip.part").stat().st_size
    with pytest.raises(InputError, match=rf"broke off after {arrived + 50_000:,} of 400,000 bytes"):
        fetch(server.url, md5)
    assert not (cache / "ml-1m.zip").exists()
    server.longest = None
    assert fetch(server.url, md5).read_bytes() == BODY


@pytest.mark.parametrize("extent", ["bytes 0-399999/400000", "bytes 250000-399999/*", "nonsense"])
@pytest.mark.parametrize("md5", [MD5, None])
def test_a_part_that_was_not_asked_for(server: Server, md5: str | None, extent: str) -> None:
    server.stop_after = 250_000
    with pytest.raises(InputError):
        fetch(server.url, md5)
    server.stop_after, server.range_of = None, extent
    with pytest.raises(InputError, match="sent another part than asked for"):
        fetch(server.url, md5)
    assert fetch(server.url, md5).read_bytes() == BODY


def raw(*head: str, body: bytes = BODY) -> bytes:
    """An answer as it goes over the wire."""
    return "".join(f"{line}\r\n" for line in (*head, "")).encode() + body


def chunked(body: bytes, end: bytes = b"0\r\n\r\n") -> bytes:
    return b"%x\r\n" % len(body) + body + b"\r\n" + end


OK = "HTTP/1.1 200 OK"
CHUNKED = (OK, "Transfer-Encoding: chunked")


@pytest.mark.parametrize(
    ("answer", "md5", "message"),
    [
        (raw("HTTP/1.1 206 Partial Content"), MD5, "sent another part than asked for"),
        (
            raw("HTTP/1.1 206 Partial Content", "Content-Range: bytes 9-399999/400000"),
            None,
            "sent another part than asked for",
        ),
        (raw(OK, "Content-Length: 400001"), MD5, "broke off after [0-9,]+ of 400,001 bytes"),
        (raw(OK, "Content-Length: 400001"), None, "broke off after [0-9,]+ of 400,001 bytes"),
        (raw(OK, "Content-Length: 399999"), MD5, "does not have the published MD5 checksum"),
        (raw(OK, "Content-Length: 399999"), None, "is not a whole zip archive"),
        (raw(OK, "Content-Length: many"), None, "does not say how long it is"),
        (raw(OK, body=BODY[:250_000]), MD5, "does not have the published MD5 checksum"),
        (raw(OK), None, "does not say how long it is"),
        (raw(*CHUNKED, body=chunked(BODY[:250_000], end=b"")), MD5, "broke off after [0-9,]+ byt"),
        (raw(*CHUNKED, body=chunked(BODY[:250_000], end=b"")), None, "broke off after [0-9,]+ by"),
        (raw(OK, "Content-Length: 400000", "Content-Encoding: gzip"), MD5, "packed as gzip, unas"),
        (
            raw(OK, "Content-Encoding: gzip", *CHUNKED[1:], body=chunked(gzip.compress(BODY))),
            None,
            "packed as gzip, unasked",
        ),
        (
            raw(OK, "Content-Length: 13", body=b"<html></html>"),
            None,
            "what arrived is not a whole zip archive",
        ),
        (raw("HTTP/1.1 204 No Content", body=b""), None, "does not say how long it is"),
        (b"\0" * 500, MD5, "no connection to the server"),
    ],
)
def test_an_answer_that_is_not_the_whole(
    server: Server, cache: Path, answer: bytes, md5: str | None, message: str
) -> None:
    server.raw = answer
    for _ in range(2):  # what the first left behind does not make the second any better
        with pytest.raises(InputError, match=message):
            fetch(server.url, md5, timeouts=(5, 5))
        assert not (cache / "ml-1m.zip").exists()
    server.raw = b""
    assert fetch(server.url, md5).read_bytes() == BODY
    assert left_over(cache) == set()


@pytest.mark.parametrize("md5", [MD5, None])
def test_an_answer_in_chunks(server: Server, md5: str | None) -> None:
    server.raw = raw(*CHUNKED, body=chunked(BODY))
    assert fetch(server.url, md5).read_bytes() == BODY


@pytest.mark.parametrize("version", [b"", b"\xff\xfe", b'"v1"\r\nHost: elsewhere', '"v€"'.encode()])
def test_a_damaged_mark_of_the_version_starts_anew(
    server: Server, cache: Path, version: bytes
) -> None:
    cache.mkdir()
    (cache / "ml-1m.zip.part").write_bytes(BODY[:250_000])
    (cache / "ml-1m.zip.part.version").write_bytes(version)
    assert fetch(server.url, MD5).read_bytes() == BODY
    assert server.asked == [None]


def test_redirects_without_end(server: Server) -> None:
    server.location = server.url
    with pytest.raises(InputError, match="from one address to the next without end"):
        fetch(server.url, MD5)


FETCH = """
import sys
from genre_embeddings.data.sources.download import fetch
print(fetch(sys.argv[1], sys.argv[2] or None, timeouts=(20, 20)))
"""


def another_process(server: Server, md5: str | None) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", FETCH, server.url, md5 or ""],
        env=os.environ | {"PYTHONPATH": str(ROOT / "src")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(what: Callable[[], bool]) -> None:
    for _ in range(3000):
        if what():
            return
        time.sleep(0.01)
    raise TimeoutError


@pytest.mark.parametrize("md5", [MD5, None])
def test_four_processes_at_once_fetch_it_once(server: Server, cache: Path, md5: str | None) -> None:
    server.delay = 2
    processes = [another_process(server, md5) for _ in range(4)]
    ended = [process.communicate(timeout=60) for process in processes]
    assert [process.returncode for process in processes] == [0] * 4
    assert [out.strip() for out, _ in ended] == [str(cache / "ml-1m.zip")] * 4
    assert (cache / "ml-1m.zip").read_bytes() == BODY
    assert len(server.asked) == 1
    assert left_over(cache) == set()
    errors = sorted(err.split()[0] for _, err in ended if err)
    assert errors == ["Downloading", *["Waiting"] * (len(errors) - 1)]


@pytest.mark.parametrize("md5", [MD5, None])
def test_another_goes_on_where_a_killed_process_stopped(
    server: Server, cache: Path, md5: str | None
) -> None:
    """One waits for it meanwhile, and another comes later."""
    server.stop_after, server.stall = 250_000, 60
    part = cache / "ml-1m.zip.part"
    killed = another_process(server, md5)
    wait_for(lambda: part.exists() and part.stat().st_size > 100_000)
    waiting = another_process(server, md5)
    assert waiting.stderr is not None
    assert waiting.stderr.readline() == "Waiting for another process that downloads ml-1m.zip\n"
    server.stop_after = None
    killed.kill()
    killed.communicate(timeout=60)
    out, err = waiting.communicate(timeout=60)
    assert (waiting.returncode, out.strip()) == (0, str(cache / "ml-1m.zip")), err
    assert (cache / "ml-1m.zip").read_bytes() == BODY
    assert server.started[1] > 100_000
    assert fetch(server.url, md5).read_bytes() == BODY
    assert len(server.asked) == 2
    assert left_over(cache) == set()


def test_a_cache_that_cannot_be_written(server: Server, cache: Path) -> None:
    cache.write_text("a file where the folder should be")
    with pytest.raises(InputError, match=r"cannot be written .* GENRE_EMBEDDINGS_CACHE"):
        fetch(server.url, MD5)


def test_the_cache_is_the_users_own_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GENRE_EMBEDDINGS_CACHE")
    assert cache_folder().is_absolute()
    assert "genre-embeddings" in cache_folder().parts


# Servers with a certificate that nobody vouches for


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh key and certificate for 127.0.0.1, signed by itself."""
    pytest.importorskip("cryptography", reason="makes the certificate")
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False
        )
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("certificate") / "both.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + made.public_bytes(serialization.Encoding.PEM)
    )
    return path


@pytest.fixture
def secure_server(certificate: Path) -> Iterator[Server]:
    server = Server("https")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    # The handshake waits for the thread of its connection.
    server.socket = context.wrap_socket(
        server.socket, server_side=True, do_handshake_on_connect=False
    )
    yield from run(server)


def test_a_checksum_makes_up_for_a_bad_certificate(
    secure_server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fetch(secure_server.url, MD5).read_bytes() == BODY
    assert "certificate is not valid; the checksum decides" in capsys.readouterr().err


def test_without_a_checksum_a_bad_certificate_is_refused(secure_server: Server) -> None:
    with pytest.raises(InputError, match="certificate is not valid, and there is no published che"):
        fetch(secure_server.url, None)
    assert secure_server.asked == []


@pytest.fixture
def trusted(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))


@pytest.mark.usefixtures("trusted")
@pytest.mark.parametrize(
    ("md5", "outcome"), [(MD5, BODY), (None, "which is not encrypted, and there is no published")]
)
def test_a_way_out_of_encryption_needs_a_checksum(
    secure_server: Server, server: Server, md5: str | None, outcome: bytes | str
) -> None:
    secure_server.location = server.url
    if isinstance(outcome, bytes):
        assert fetch(secure_server.url, md5).read_bytes() == outcome
    else:
        with pytest.raises(InputError, match=outcome):
            fetch(secure_server.url, md5)


@pytest.mark.usefixtures("trusted")
def test_a_good_certificate_needs_no_checksum(secure_server: Server) -> None:
    assert fetch(secure_server.url, None).read_bytes() == BODY
