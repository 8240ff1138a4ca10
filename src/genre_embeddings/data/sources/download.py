"""Download an archive once, into a cache that all experiments of a user share.

Pooch writes each download to a temporary file of its own and renames it only after the content was
checked. An archive in the cache is therefore always complete, also when two processes download the
same one at the same time.
"""

from __future__ import annotations

import os
import sys
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
    pooch.get_logger().setLevel("WARNING")  # its messages advise programmers, not users
    downloader = pooch.HTTPDownloader(
        progressbar=sys.stderr.isatty(), chunk_size=2**16, timeout=TIMEOUTS
    )
    try:
        if not target.is_file():
            print(f"Downloading {url} to {target.parent}", file=sys.stderr, flush=True)
            pooch.retrieve(url, checksum, target.name, target.parent, downloader=downloader)
            target.chmod(0o644)  # temporary files are private, but users may share a cache
        elif not has_checksum(target, checksum):
            raise InputError(f"{target} {fault}. Delete it, and the next run downloads it again.")
    except requests.HTTPError as error:
        reason = str(error).rstrip(".")  # such as 404 Client Error: Not Found
    except requests.RequestException as error:
        reason = f"the connection failed ({type(error).__name__})"
    except ValueError:  # pooch raises it for wrong content
        reason = f"what arrived {fault}"
    except OSError as error:  # writing failed
        reason = f"{error}: make room, correct the permissions, or set {CACHE_VARIABLE}"
    else:
        return target
    raise InputError(
        f"{url} cannot be downloaded to {target}: {reason}. Try again later, drop "
        f"{target.name} into data/raw/ or where data.path points, or set data.source to planted."
    )
