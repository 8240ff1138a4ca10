"""Download an archive once, into a cache that all experiments of a user share.

Pooch writes each download to a temporary file of its own and renames it only after the content was
checked. An archive in the cache is therefore always complete, also when two processes download the
same one at the same time.
"""

from __future__ import annotations

import os
import sys
import warnings
import zipfile
from pathlib import Path
from typing import Any

import pooch
import requests

from genre_embeddings.errors import InputError

CACHE_VARIABLE = "GENRE_EMBEDDINGS_CACHE"
TIMEOUTS = (15.0, 60.0)
"""Seconds to wait for a connection, and for the next bytes of an answer."""


def cache_folder() -> Path:
    """The folder that GENRE_EMBEDDINGS_CACHE names, or else the user's cache folder."""
    chosen = os.environ.get(CACHE_VARIABLE)
    return Path(chosen).expanduser() if chosen else Path(pooch.os_cache("genre-embeddings"))


def fetch(url: str, md5: str | None, timeouts: tuple[float, float] = TIMEOUTS) -> Path:
    """Return a zip archive from the cache; download it first if it is not there.

    Args:
        url: the address; its last part is the archive's name in the cache.
        md5: the published checksum, or None where there is none.
        timeouts: seconds to wait for a connection, and for the next bytes.

    Raises:
        InputError: the archive cannot be downloaded, or the one in the cache is wrong.
    """
    target = cache_folder() / url.rpartition("/")[2]
    try:
        if target.is_file():
            if not _is_right(target, md5):
                raise InputError(
                    f"{target} {_fault(md5)}. Delete it, and the next run downloads it again."
                )
            return target
        _say(f"Downloading {url} to {target.parent}")
        try:
            _retrieve(url, target, md5, timeouts)
        except requests.exceptions.SSLError as error:
            if md5 is None or "CERTIFICATE_VERIFY_FAILED" not in str(error):
                raise
            _say("The server's TLS certificate is not valid; the checksum decides instead")
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # urllib3 warns of the missing verification
                _retrieve(url, target, md5, timeouts, verify=False)
    except OSError as error:  # requests derives its errors from OSError
        reason = _reason(error)
    except ValueError:  # pooch and `_Downloader` raise it for wrong content
        reason = f"what arrived {_fault(md5)}"
    else:
        return target
    raise InputError(
        f"{url} cannot be downloaded to {target}: {reason}. Try again later, drop "
        f"{target.name} into data/raw/ or where data.path points, or set data.source to planted."
    )


def _retrieve(
    url: str,
    target: Path,
    md5: str | None,
    timeouts: tuple[float, float],
    *,
    verify: bool = True,
) -> None:
    needs_encryption = url.startswith("https:") and md5 is None
    pooch.get_logger().setLevel("WARNING")  # its messages advise programmers, not users
    pooch.retrieve(
        url,
        known_hash=f"md5:{md5}" if md5 else None,
        fname=target.name,
        path=target.parent,
        downloader=_Downloader(
            progressbar=sys.stderr.isatty(),
            chunk_size=2**16,
            timeout=timeouts,
            verify=verify,
            headers={"Accept-Encoding": "identity"},
            hooks={"response": _refuse_unencrypted} if needs_encryption else {},
        ),
    )


class _Downloader(pooch.HTTPDownloader):
    """Also makes sure that a zip archive arrived: without a checksum, pooch checks nothing."""

    def __call__(self, url: str, output_file: str, *args: Any, **kwargs: Any) -> None:
        super().__call__(url, output_file, *args, **kwargs)
        if not _is_right(Path(output_file), None):
            raise ValueError("not a zip archive")
        # Temporary files are private, but several users may share a cache.
        Path(output_file).chmod(0o644)


def _refuse_unencrypted(response: requests.Response, **_: Any) -> None:
    """Stop where a server redirects to an unencrypted address: others could change the content."""
    if not response.url.startswith("https:"):
        raise requests.exceptions.SSLError(
            f"the server redirects to {response.url}, which is not encrypted, and no published "
            "checksum protects the content"
        )


def _is_right(archive: Path, md5: str | None) -> bool:
    """Whether an archive has its checksum; without one, whether its table of contents is there."""
    if md5:
        return str(pooch.file_hash(str(archive), alg="md5")) == md5
    try:
        zipfile.ZipFile(archive).close()
    except (zipfile.BadZipFile, ValueError, NotImplementedError):
        return False
    return True


def _fault(md5: str | None) -> str:
    if md5:
        return f"does not have the published MD5 checksum {md5}"
    return "is not a zip archive that can be read"


def _reason(error: OSError) -> str:
    """What went wrong, for somebody who does not know the libraries."""
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return f"the server answers {error.response.status_code} {error.response.reason}"
    if "CERTIFICATE_VERIFY_FAILED" in str(error):
        return "the server's TLS certificate is not valid, and no published checksum replaces it"
    if isinstance(error, requests.Timeout) or "timed out" in str(error):
        return "the server did not answer in time"
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return "the connection broke off"
    if isinstance(error, requests.ConnectionError) and error.request is not None:
        return "no connection to the server"
    if not isinstance(error, requests.RequestException):  # writing failed
        return f"{error}: make room, correct the permissions, or set {CACHE_VARIABLE}"
    return str(error).rstrip(".")


def _say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)
