"""Download an archive once, into a cache that all experiments of a user share.

Pooch writes each download to a temporary file of its own and renames it only after the content was
checked. An archive in the cache is therefore always complete, also when two processes download the
same one at the same time.
"""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path

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


def has_checksum(archive: Path, checksum: str) -> bool:
    """Whether an archive has a checksum, which is `md5:` or `sha256:` and its digits."""
    algorithm, _, digits = checksum.partition(":")
    return str(pooch.file_hash(str(archive), alg=algorithm)) == digits


def fetch(url: str, checksum: str) -> Path:
    """Return an archive from the cache; download it first if it is not there.

    Args:
        url: the address; its last part is the archive's name in the cache.
        checksum: as for `has_checksum`; whatever has another is refused.

    Raises:
        InputError: the archive cannot be downloaded, or the one in the cache is wrong.
    """
    target = cache_folder() / url.rpartition("/")[2]
    fault = f"does not have the checksum {checksum}"
    try:
        if not target.is_file():
            _say(f"Downloading {url} to {target.parent}")
            _download(url, target, checksum)
            target.chmod(0o644)  # temporary files are private, but users may share a cache
        elif not has_checksum(target, checksum):
            raise InputError(f"{target} {fault}. Delete it, and the next run downloads it again.")
    except OSError as error:  # requests derives its errors from OSError
        reason = _reason(error)
    except ValueError:  # pooch raises it for wrong content
        reason = f"what arrived {fault}"
    else:
        return target
    raise InputError(
        f"{url} cannot be downloaded to {target}: {reason}. Try again later, drop "
        f"{target.name} into data/raw/ or where data.path points, or set data.source to planted."
    )


def _download(url: str, target: Path, checksum: str) -> None:
    pooch.get_logger().setLevel("WARNING")  # its messages advise programmers, not users
    for verify in (True, False):
        downloader = pooch.HTTPDownloader(
            progressbar=sys.stderr.isatty(), chunk_size=2**16, timeout=TIMEOUTS, verify=verify
        )
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # urllib3 warns of the missing verification
                pooch.retrieve(url, checksum, target.name, target.parent, downloader=downloader)
        except requests.exceptions.SSLError as error:
            if not verify or "CERTIFICATE_VERIFY_FAILED" not in str(error):
                raise
            _say("The server's TLS certificate is not valid; the checksum decides instead")
        else:
            return


def _reason(error: OSError) -> str:
    """What went wrong, for somebody who does not know the libraries."""
    if isinstance(error, requests.Timeout) or "timed out" in str(error):
        return "the server did not answer in time"
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return "the connection broke off"
    if isinstance(error, requests.ConnectionError):
        return "no connection to the server"
    if not isinstance(error, requests.RequestException):  # writing failed
        return f"{error}: make room, correct the permissions, or set {CACHE_VARIABLE}"
    return str(error).rstrip(".")  # such as 404 Client Error: Not Found


def _say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)
