"""Finding a source's files in a folder or a zip archive, and unpacking just those.

Names inside an archive are never used as paths: a member is recognised by its base name, under
at most one top folder, and copied to a name of our own in a temporary folder.
"""

from __future__ import annotations

import lzma
import os
import shutil
import stat
import tempfile
import zipfile
import zlib
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias, TypeVar

from genre_embeddings.errors import InputError

Place = TypeVar("Place", Path, zipfile.ZipInfo)
Found: TypeAlias = dict[str, dict[str, Place]]
"""Top folder ("" for the place itself) -> file name -> where it lies."""

_LARGE = 2**30  # bytes
_ABSURD_RATIO = 200  # a table of ratings shrinks some 3- to 15-fold


@dataclass(frozen=True)
class File:
    """A file on disk, with the name by which the user knows it."""

    path: Path
    label: str


def places(path: str) -> list[Path]:
    """Where `data.path` may lie: under the current folder, then under DVC's main checkout.

    DVC runs some experiments in a temporary copy of the project, in which files that git ignores
    are missing; `DVC_ROOT` leads back to them.
    """
    here = Path(path).expanduser()
    root = os.environ.get("DVC_ROOT")
    if here.is_absolute() or not root or Path(root).resolve() == Path.cwd().resolve():
        return [here]
    return [here, Path(root) / here]


def holds(folder: Path, layouts: Sequence[tuple[str, ...]]) -> bool:
    """Whether all files of a layout lie in the folder, or in one folder inside it."""
    wanted = {name for names in layouts for name in names}
    return folder.is_dir() and bool(_complete(_in_folder(folder, wanted), layouts))


@contextmanager
def open_files(
    place: Path, layouts: Sequence[tuple[str, ...]], extras: Sequence[str] = ()
) -> Iterator[tuple[tuple[str, ...], dict[str, File]]]:
    """The files of the one layout that a folder or zip archive holds, ready to be scanned.

    Args:
        place: a folder or a zip archive; the files lie in it or in one folder inside it.
        layouts: the file names of each layout that will do.
        extras: names of files that are opened as well, where they lie beside the layout's.

    Yields:
        The layout found, and its files by name; unpacked ones live as long as the context.

    Raises:
        InputError: no layout is complete, several are, or the archive cannot be read.
    """
    wanted = {name for names in (*layouts, extras) for name in names}
    if place.is_dir():
        layout, found = _choose(_in_folder(place, wanted), layouts, place, extras)
        yield layout, {name: File(path, str(path)) for name, path in found.items()}
        return
    with tempfile.TemporaryDirectory(prefix="genre-embeddings-") as folder:
        with _reading(place), zipfile.ZipFile(place) as archive:
            layout, members = _choose(_in_archive(archive, wanted, place), layouts, place, extras)
            files = {}
            for name, member in members.items():
                files[name] = File(Path(folder) / name, f"{place}: {member.filename}")
                _unpack(archive, member, files[name].path, place)
        yield layout, files


def _in_folder(place: Path, wanted: Collection[str]) -> Found[Path]:
    tops = ["", *sorted(entry.name for entry in place.iterdir() if entry.is_dir())]
    return {
        top: {name: place / top / name for name in wanted if (place / top / name).is_file()}
        for top in tops
    }


def _in_archive(
    archive: zipfile.ZipFile, wanted: Collection[str], place: Path
) -> Found[zipfile.ZipInfo]:
    found: Found[zipfile.ZipInfo] = {}
    for member in archive.infolist():
        # Some Windows programs write backslashes.
        *folders, name = member.filename.replace("\\", "/").split("/")
        if name not in wanted or member.is_dir():
            continue
        if ".." in folders or "" in folders:
            raise _refused(place, member, "its name leads out of the archive")
        if len(folders) > 1:
            continue
        top = folders[0] if folders else ""
        if name in found.setdefault(top, {}):
            raise _refused(place, member, "the archive holds it twice")
        found[top][name] = member
    return found


def _choose(
    found: Found[Place],
    layouts: Sequence[tuple[str, ...]],
    place: Path,
    extras: Sequence[str],
) -> tuple[tuple[str, ...], dict[str, Place]]:
    """The one complete layout; files in the place itself go before those in a folder inside."""
    complete = _complete(found, layouts)
    direct = [choice for choice in complete if choice[0] == ""]
    match direct or complete:
        case [(top, layout)]:
            present, wanted = found[top], layout + tuple(extras)
            return layout, {name: present[name] for name in wanted if name in present}
        case []:
            raise InputError(_incomplete(found, layouts, place))
        case several:
            listed = "; ".join(
                f"{' + '.join(layout)} in {top or 'the place itself'}" for top, layout in several
            )
            raise InputError(
                f"{place} holds more than one set of ratings ({listed}): "
                "name the one you mean in data.path, or take the others away."
            )


def _complete(
    found: Found[Place], layouts: Sequence[tuple[str, ...]]
) -> list[tuple[str, tuple[str, ...]]]:
    return [
        (top, layout)
        for top, names in found.items()
        for layout in layouts
        if names.keys() >= set(layout)
    ]


def _incomplete(found: Found[Place], layouts: Sequence[tuple[str, ...]], place: Path) -> str:
    needed = ", or ".join(" + ".join(layout) for layout in layouts)
    wanted = {name for layout in layouts for name in layout}
    present = sorted({name for names in found.values() for name in names if name in wanted})
    message = (
        f"{place} does not hold the files needed: {needed}, together in it or in one folder "
        f"inside it. Found of these: {', '.join(present) or 'none'}."
    )
    if place.is_dir() and (archives := sorted(path.name for path in place.glob("*.zip"))):
        message += f" It holds {', '.join(archives)}: data.path may name an archive itself."
    return message


def _unpack(archive: zipfile.ZipFile, member: zipfile.ZipInfo, target: Path, place: Path) -> None:
    if stat.S_ISLNK(member.external_attr >> 16):
        raise _refused(place, member, "it is a link, not a file")
    if member.flag_bits & 0x1:
        raise _refused(place, member, "it is encrypted")
    if member.file_size > max(_LARGE, _ABSURD_RATIO * member.compress_size):
        raise _refused(
            place,
            member,
            f"it claims to grow from {member.compress_size:,} to {member.file_size:,} bytes",
        )
    # zipfile stops at the size declared and checks the CRC when it gets there.
    with archive.open(member) as packed, target.open("wb") as unpacked:
        shutil.copyfileobj(packed, unpacked, 2**20)


def _refused(place: Path, member: zipfile.ZipInfo, reason: str) -> InputError:
    return InputError(
        f"{place}: {member.filename!r} is not unpacked: {reason}. "
        "Zip the plain files anew, or unpack them yourself and name the folder in data.path."
    )


@contextmanager
def _reading(place: Path) -> Iterator[None]:
    """Turns what zipfile raises over a damaged archive into one clear error."""
    try:
        yield
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, ValueError) as error:
        raise InputError(
            f"{place} is not a zip archive that can be read ({error}): "
            "delete it and fetch it again, or name another in data.path."
        ) from None
    except NotImplementedError as error:
        raise InputError(
            f"{place} is packed in a way that Python cannot read ({error}): "
            "unpack it yourself and name the folder in data.path."
        ) from None
    except OSError as error:
        raise InputError(
            f"{place} cannot be unpacked to {tempfile.gettempdir()} ({error}): check the file's "
            "rights and the space left; the environment variable TMPDIR names another folder."
        ) from None
