"""Finding a source's files in a folder or a zip archive, and unpacking just those.

Names inside an archive are never used as paths: a member is recognised by its base name, under
at most one top folder, and copied to a name of our own in a temporary folder. An archive may come
from a stranger: one whose names lead elsewhere, or that would fill the disk, is refused.
"""

from __future__ import annotations

import lzma
import os
import re
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

from genre_embeddings.data.sources.base import shown
from genre_embeddings.errors import InputError

Place = TypeVar("Place", Path, zipfile.ZipInfo)
Found: TypeAlias = dict[str, dict[str, Place]]
"""Top folder ("" for the place itself) -> file name -> where it lies."""

_LARGE = 2**28  # bytes
_ABSURD_RATIO = 200  # a table of ratings shrinks some 3- to 15-fold
_ARCHIVES = (".zip", ".7z", ".rar", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".zst")


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
        yield layout, {name: File(path, _printable(path)) for name, path in found.items()}
        return
    with tempfile.TemporaryDirectory(prefix="genre-embeddings-") as folder:
        with _reading(place), zipfile.ZipFile(place) as archive:
            layout, members = _choose(_in_archive(archive, wanted, place), layouts, place, extras)
            _check(members.values(), place)
            files = {}
            for name, member in members.items():
                label = f"{_printable(place)}: {_printable(member.filename)}"
                files[name] = File(Path(folder) / name, label)
                # zipfile stops at the size declared and checks the CRC when it gets there.
                with archive.open(member) as packed, files[name].path.open("wb") as unpacked:
                    shutil.copyfileobj(packed, unpacked, 2**20)
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
        if ".." in folders or folders[:1] == [""] or re.match("[A-Za-z]:", member.filename):
            raise _refused(place, member, "its name leads out of the archive")
        folders = [folder for folder in folders if folder not in ("", ".")]
        if name not in wanted or len(folders) > 1:
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
                f"{' + '.join(layout)} in {_printable(top) or 'the place itself'}"
                for top, layout in several
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
    if place.is_dir():
        archives = [path.name for path in place.glob("*.zip")]
        advice = "data.path may name an archive itself"
    else:
        with zipfile.ZipFile(place) as archive:
            archives = [name for name in archive.namelist() if name.lower().endswith(_ARCHIVES)]
        advice = "an archive within an archive is not opened, so unpack it and name it in data.path"
    if archives:
        message += f" It holds {', '.join(map(_printable, sorted(archives)[:3]))}: {advice}."
    return message


def _check(members: Collection[zipfile.ZipInfo], place: Path) -> None:
    """Make sure that members are plain files and that there is room for them."""
    for member in members:
        if stat.S_ISLNK(member.external_attr >> 16):
            raise _refused(place, member, "it is a link, not a file")
        if member.flag_bits & 0x1:
            raise _refused(place, member, "it is encrypted")
        packed = min(member.compress_size, place.stat().st_size)  # the first is only a claim
        if member.file_size > max(_LARGE, _ABSURD_RATIO * packed):
            raise _refused(
                place, member, f"it claims to grow from {packed:,} to {member.file_size:,} bytes"
            )
    size = sum(member.file_size for member in members)
    free = shutil.disk_usage(tempfile.gettempdir()).free
    if size > free:
        raise InputError(
            f"{place} holds {size:,} bytes when unpacked, and {tempfile.gettempdir()} has room for "
            f"{free:,}: make room, or name another folder in the environment variable TMPDIR."
        )


def _refused(place: Path, member: zipfile.ZipInfo, reason: str) -> InputError:
    return InputError(
        f"{place}: {shown(member.filename)} is not unpacked: {reason}. "
        "Zip the plain files anew, or put them into a folder, and name it in data.path."
    )


def _printable(name: Path | str) -> str:
    """A name for a message: as it is, unless a terminal would obey it or choke on it."""
    text = str(name)
    return text if text.isprintable() and len(text) <= 200 else shown(text)


@contextmanager
def _reading(place: Path) -> Iterator[None]:
    """Turns what zipfile raises over a damaged archive into one clear error."""
    try:
        yield
    except (NotImplementedError, MemoryError) as error:
        raise InputError(
            f"{place} is packed in a way that Python cannot read ({str(error) or 'no memory'}): "
            "unpack it yourself and name the folder in data.path."
        ) from None
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, ValueError, OSError) as error:
        # What bzip2 says of damage is an OSError too, but without a number.
        if isinstance(error, OSError) and error.errno is not None:
            raise InputError(
                f"{place} cannot be unpacked to {tempfile.gettempdir()} ({error}): check the "
                "file's rights and the space left; the environment variable TMPDIR names another "
                "folder."
            ) from None
        raise InputError(
            f"{place} is not a zip archive that can be read ({_printable(str(error))}): "
            "delete it and fetch it again, or name another in data.path."
        ) from None
