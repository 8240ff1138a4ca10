"""Fetching an archive once into a cache that all experiments of a user share.

A download that broke off goes on where it stopped, a stalled server ends in an error, a lapsed
certificate is tolerated where a checksum vouches for the content, and two processes do not fetch
the same archive at once. Half an archive never counts as a whole one: its checksum tells, or where
there is none, its length and its table of contents. Only then is it moved to its place, in one
step.
"""

from __future__ import annotations

import os
import re
import sys
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pooch
import requests
from filelock import FileLock, Timeout
from tqdm import tqdm
from urllib3.exceptions import InsecureRequestWarning

from genre_embeddings.errors import InputError

CACHE_VARIABLE = "GENRE_EMBEDDINGS_CACHE"
TIMEOUTS = (15.0, 60.0)
"""Seconds to wait for a connection, and for the next bytes of an answer."""

_BLOCK = 2**16  # bytes


def cache_folder() -> Path:
    """The per-user cache, or the folder that GENRE_EMBEDDINGS_CACHE names."""
    chosen = os.environ.get(CACHE_VARIABLE)
    return Path(chosen).expanduser() if chosen else Path(pooch.os_cache("genre-embeddings"))


def fetch(url: str, md5: str | None, timeouts: tuple[float, float] = TIMEOUTS) -> Path:
    """The zip archive behind an address, from the cache or else downloaded into it.

    Args:
        url: the address; its last part names the archive in the cache.
        md5: the published checksum, or None where there is none.
        timeouts: seconds to wait for a connection, and for the next bytes.

    Raises:
        InputError: the archive cannot be had. What has arrived of it waits for the next try,
            unless it is wrong.
    """
    target = cache_folder() / url.rpartition("/")[2]
    if target.is_file() and _is_whole(target, md5):
        return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _alone(target):
            if not (target.is_file() and _is_whole(target, md5)):  # by now
                _Download(url, target, md5, timeouts).run()
    except requests.RequestException as error:
        raise InputError(f"{url} cannot be downloaded: {_reason(error, timeouts)}") from None
    except OSError as error:
        raise InputError(
            f"{target} cannot be written ({error}): make room or mend the rights, or name "
            f"another cache folder in the environment variable {CACHE_VARIABLE}."
        ) from None
    return target


def _is_whole(archive: Path, md5: str | None) -> bool:
    """Whether an archive has its checksum, or its table of contents, which stands at the end."""
    if md5:
        return str(pooch.file_hash(str(archive), alg="md5")) == md5
    try:
        zipfile.ZipFile(archive).close()
    except (zipfile.BadZipFile, ValueError, NotImplementedError):
        return False
    return True


@contextmanager
def _alone(target: Path) -> Iterator[None]:
    """Keeps other processes from fetching the same file; the system frees a dead one's lock."""
    lock = FileLock(target.with_name(f"{target.name}.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        _say(f"Waiting for another process that downloads {target.name}")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


class _Download:
    """One archive's way into the cache, which goes on where an earlier one broke off.

    What arrives is kept in NAME.part until it is complete, and the server's mark for this
    version of the file (ETag or Last-Modified) in NAME.part.version.
    """

    def __init__(
        self, url: str, target: Path, md5: str | None, timeouts: tuple[float, float]
    ) -> None:
        self.url, self.target, self.md5, self.timeouts = url, target, md5, timeouts
        self.part = target.with_name(f"{target.name}.part")
        self.version = target.with_name(f"{target.name}.part.version")

    def run(self) -> None:
        """Download; the target appears complete or not at all."""
        whole = {"Accept-Encoding": "identity"}
        _say(f"Downloading {self.url} to {self.target.parent}")
        with self._get(whole | self._continuation()) as response:
            is_past_the_end = response.status_code == requests.codes.range_not_satisfiable
            if not is_past_the_end:
                self._receive(response)
        if is_past_the_end:  # complete but never moved, or shorter on the server by now
            self._forget()
            with self._get(whole) as response:
                self._receive(response)
        if not _is_whole(self.part, self.md5):
            self._forget()
            wrong = "is not a whole zip archive"
            if self.md5:
                wrong = f"does not have the published MD5 checksum {self.md5}"
            raise InputError(
                f"{self.url} cannot be downloaded: what arrived {wrong}. It is "
                "damaged, cut off or another file, and has been deleted. Try again later."
            )
        self.part.replace(self.target)
        self._forget()

    def _continuation(self) -> dict[str, str]:
        """Headers that ask for the rest only, provided that the file is still the same."""
        if not (self.part.exists() and self.version.exists()):
            return {}
        version = self.version.read_text(encoding="utf-8", errors="replace")
        if not (version and version.isascii() and version.isprintable()):
            return {}  # what a crash left is no mark that a server would know
        return {"Range": f"bytes={self.part.stat().st_size}-", "If-Range": version}

    def _get(self, headers: dict[str, str]) -> requests.Response:
        try:
            response = requests.get(self.url, headers=headers, stream=True, timeout=self.timeouts)
        except requests.exceptions.SSLError as error:
            if "CERTIFICATE_VERIFY_FAILED" not in str(error):
                raise
            if self.md5 is None:
                raise InputError(
                    f"{self.url} cannot be downloaded: the server's TLS certificate is not valid, "
                    "and there is no published checksum that would vouch for the content."
                ) from None
            _say("The server's TLS certificate is not valid; the checksum decides instead")
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", InsecureRequestWarning)
                response = requests.get(
                    self.url, headers=headers, stream=True, timeout=self.timeouts, verify=False
                )
        steps = [step.url for step in (*response.history, response)]
        if self.url.startswith("https:") and self.md5 is None:
            for step in steps:
                if not step.startswith("https:"):
                    response.close()
                    raise InputError(
                        f"{self.url} cannot be downloaded: the server leads to {step}, which is "
                        "not encrypted, and there is no published checksum that would vouch for it."
                    )
        return response

    def _receive(self, response: requests.Response) -> None:
        """Write an answer's content to the part, or append it where it is the rest."""
        response.raise_for_status()
        encoding = response.headers.get("Content-Encoding", "identity")
        if encoding != "identity":
            raise requests.ConnectionError(f"the server sent it packed as {encoding}, unasked")
        offset, size = 0, _size(response)
        if response.status_code == requests.codes.partial_content:
            offset = self.part.stat().st_size if self.part.exists() else 0
            if size is None or not response.headers["Content-Range"].startswith(f"bytes {offset}-"):
                self._forget()
                raise requests.ConnectionError("the server sent another part than asked for")
        else:
            self._forget()
            if version := _version(response):
                self.version.write_text(version, encoding="utf-8")
        if size is None and self.md5 is None and not _is_chunked(response):
            raise requests.ConnectionError(
                "the server does not say how long it is, and there is no published checksum that "
                "would tell a part from the whole"
            )
        with (
            self.part.open("ab") as part,
            tqdm(
                desc=self.part.stem,
                initial=offset,
                total=size,
                unit="B",
                unit_scale=True,
                disable=None,  # no bar where stderr is not a terminal
            ) as bar,
        ):
            try:
                for block in response.iter_content(_BLOCK):
                    bar.update(part.write(block))
            except requests.RequestException as error:
                raise requests.ConnectionError(self._broken_off(part.tell(), size, error)) from None
        arrived = self.part.stat().st_size
        if size is not None and arrived != size:
            raise requests.ConnectionError(self._broken_off(arrived, size, None))

    def _broken_off(self, arrived: int, size: int | None, error: Exception | None) -> str:
        cause = f": {_silence(self.timeouts)}" if error and "timed out" in str(error) else ""
        next_try = "goes on from there" if self.version.exists() else "starts anew"
        total = "" if size is None else f" of {size:,}"
        return f"it broke off after {arrived:,}{total} bytes{cause}; the next try {next_try}"

    def _forget(self) -> None:
        self.part.unlink(missing_ok=True)
        self.version.unlink(missing_ok=True)


def _size(response: requests.Response) -> int | None:
    """Bytes of the whole file, where the server says so."""
    if response.status_code == requests.codes.partial_content:
        # An answer may be shorter than the rest: its own length does not tell.
        found = re.fullmatch(
            r"bytes [0-9]+-[0-9]+/([0-9]{1,18})", response.headers.get("Content-Range", "")
        )
        return int(found[1]) if found else None
    length = response.headers.get("Content-Length", "")
    return int(length) if re.fullmatch("[0-9]{1,18}", length) else None


def _is_chunked(response: requests.Response) -> bool:
    """Whether the answer marks its own end, so that half of it is noticed."""
    return response.headers.get("Transfer-Encoding", "").lower() == "chunked"


def _version(response: requests.Response) -> str | None:
    """What tells one version of a file from the next; a weak ETag is no good for that."""
    etag = response.headers.get("ETag", "")
    if etag and not etag.startswith("W/"):
        return etag
    return response.headers.get("Last-Modified")


def _reason(error: requests.RequestException, timeouts: tuple[float, float]) -> str:
    """What went wrong, in the words of somebody who waits for a file."""
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return f"the server answers {error.response.status_code} {error.response.reason}."
    if isinstance(error, requests.exceptions.ConnectTimeout):
        return f"no connection within {timeouts[0]:g} seconds."
    if isinstance(error, requests.exceptions.ReadTimeout):
        return f"{_silence(timeouts)}."
    if isinstance(error, requests.exceptions.SSLError):
        return "no secure connection to the server."
    if isinstance(error, requests.TooManyRedirects):
        return "the server sends from one address to the next without end."
    if type(error) is requests.ConnectionError and error.request is None:
        return f"{error}."  # our own
    return "no connection to the server."


def _silence(timeouts: tuple[float, float]) -> str:
    return f"the server was silent for {timeouts[1]:g} seconds"


def _say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)
