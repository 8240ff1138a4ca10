"""Find a source's files in a folder or a zip archive, and unpack just those.

A file is recognised by its base name, in the place itself or in one folder inside it. Names inside
an archive are never used as paths: a member is copied to a name of our own in a temporary folder.

Only what DVC records as a dependency is read: the place that `data.path` names in this copy of the
project, whose content DVC hashes. The copy in which a queued experiment runs lacks files that
neither git nor DVC tracks; such an experiment is refused.
"""

from __future__ import annotations

import lzma
import os
import shlex
import shutil
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from genre_embeddings.data.sources.base import printable, shown
from genre_embeddings.errors import InputError

GENOME = "genome-scores.csv"
"""The tag genome, which an archive may hold beside the files that a source needs."""

Layout: TypeAlias = tuple[str, ...]
"""Names of the files that a source needs."""
Found: TypeAlias = dict[str, dict[str, Any]]
"""Top folder ("" for the place itself) -> file name -> a Path, or a member of an archive."""

_LARGE = 2**24  # bytes
_ABSURD_RATIO = 100  # a table of ratings shrinks some 3- to 15-fold


@dataclass(frozen=True)
class File:
    """A file on disk, with the name by which the user knows it."""

    path: Path
    label: str


def in_main_checkout(place: Path) -> Path | None:
    """A place in DVC's main checkout, if it is there and this is an experiment's copy of it."""
    root = os.environ.get("DVC_ROOT")
    if not root or place.is_absolute() or Path(root).resolve() == Path.cwd().resolve():
        return None
    return Path(root, place) if Path(root, place).exists() else None


def require_copied(place: Path, names: Iterable[str]) -> None:
    """Refuse an experiment's copy of the project that lacks a place, or files or folders in it.

    Args:
        place: in the copy.
        names: what the main checkout has there.

    Raises:
        InputError: the main checkout has what the copy lacks.
    """
    missing = sorted(n for n in names if not (place / n).exists()) if place.exists() else [""]
    if missing:
        paths = [os.path.normpath(place / name) for name in missing]
        raise InputError(
            f"{printable(', '.join(paths))} is missing in this experiment's copy of the "
            f"project, because neither git nor DVC tracks it: run `dvc add {shlex.join(paths)}`"
            " and start the experiment again, or give an absolute path in data.path."
        )


def files_of_layouts(place: Path, layouts: Sequence[Layout]) -> set[str]:
    """Names of the files of every complete layout in a folder or in a folder inside it."""
    found = _in_folder(place, layouts) if place.is_dir() else {}
    return {str(Path(top, name)) for top, layout in _complete(found, layouts) for name in layout}


def require_seen(place: Path) -> None:
    """Refuse a folder inside another one if DVC does not see what changes in it.

    DVC follows no link to a folder inside the one that it hashes, and leaves out other projects.

    Raises:
        InputError: it is such a folder.
    """
    if place.is_dir() and (place.is_symlink() or (place / ".dvc").is_dir()):
        reason = "a link to a folder" if place.is_symlink() else "another DVC project"
        raise InputError(
            f"{printable(place)} is {reason}, so that DVC does not notice changes in it: name "
            "it in data.path, or put the files themselves there."
        )


@contextmanager
def open_files(place: Path, layouts: Sequence[Layout]) -> Iterator[tuple[Layout, dict[str, File]]]:
    """The files of the one layout in a folder or zip archive, ready to be scanned.

    The tag genome is opened too, where it lies in an archive. In a folder it is left alone: the
    copy of the project in which an experiment runs may lack it, and would take an earlier run's
    result for its own.

    Args:
        place: a folder or a zip archive; the files lie in it or in one folder inside it.
        layouts: the file names of each layout that will do.

    Yields:
        The layout found, and its files by name; unpacked ones live as long as the context.

    Raises:
        InputError: no layout is complete, several are, or the archive cannot be read.
    """
    allowed = f"a folder or a zip archive with {_needed(layouts)}"
    if not place.exists():
        raise InputError(
            f"data.path is {str(place)!r}, and nothing is there; allowed: {allowed}. "
            "Correct data.path, or set data.source to planted."
        )
    if place.is_dir():
        top, layout, paths = _choose(_in_folder(place, layouts), layouts, place)
        if top:
            require_seen(place / top)
        if genome := paths.pop(GENOME, None):
            ignored = f"{printable(genome)} is not read: pack the files in a zip archive"
            print(ignored, file=sys.stderr)
        yield layout, {name: File(path, printable(path)) for name, path in paths.items()}
        return
    with tempfile.TemporaryDirectory(prefix="genre-embeddings-") as scratch:
        try:
            opened = _unpack(place, layouts, Path(scratch))
        except (
            OSError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, ValueError,
            MemoryError, RuntimeError,  # encrypted, or a compression that Python lacks
        ) as error:  # fmt: skip
            if getattr(error, "errno", None):  # damaged bzip2 is an OSError without one
                raise InputError(
                    f"{place} cannot be unpacked to {tempfile.gettempdir()} ({error}): check the "
                    "file's rights and the space left; the environment variable TMPDIR names "
                    "another folder."
                ) from None
            raise InputError(
                f"{place} is not a zip archive that can be read ({printable(str(error))}); allowed "
                f"in data.path: {allowed}. Put the files into a folder and name it, or pack them "
                "again."
            ) from None
        yield opened


def _unpack(place: Path, layouts: Sequence[Layout], folder: Path) -> tuple[Layout, dict[str, File]]:
    files = {}
    with zipfile.ZipFile(place) as archive:
        _, layout, members = _choose(_in_archive(archive, layouts), layouts, place)
        for name, member in members.items():
            packed = min(member.compress_size, place.stat().st_size)  # the first is a claim
            if member.file_size > max(_LARGE, _ABSURD_RATIO * packed):
                raise InputError(
                    f"{place}: {shown(member.filename)} is not unpacked: it claims to grow "
                    f"from {packed:,} to {member.file_size:,} bytes. If it is what you expect, "
                    "unpack it yourself and name the folder in data.path."
                )
            label = f"{printable(place)}: {printable(member.filename)}"
            files[name] = File(folder / name, label)
            # zipfile stops at the size declared and checks the CRC when it gets there.
            with archive.open(member) as packed_file, files[name].path.open("wb") as unpacked:
                shutil.copyfileobj(packed_file, unpacked, 2**20)
    return layout, files


def _in_folder(place: Path, layouts: Sequence[Layout]) -> Found:
    # DVC ignores hidden folders and __pycache__, so that it would not see a change.
    inside = sorted(entry.name for entry in place.iterdir() if entry.is_dir())
    tops = ["", *(name for name in inside if name[0] != "." and name != "__pycache__")]
    names = {GENOME}.union(*layouts)
    return {
        top: {name: path for name in names if (path := place / top / name).is_file()}
        for top in tops
    }


def _in_archive(archive: zipfile.ZipFile, layouts: Sequence[Layout]) -> Found:
    names = {GENOME}.union(*layouts)
    found: Found = {}
    for member in archive.infolist():
        # Some Windows programs write backslashes.
        *folders, name = member.filename.replace("\\", "/").split("/")
        folders = [folder for folder in folders if folder not in ("", ".")]
        if len(folders) < 2 and name in names:
            members = found.setdefault("".join(folders), {})
            if name in members:
                raise InputError(
                    f"{archive.filename}: {shown(member.filename)} stands twice in the archive: "
                    "pack it again, or unpack it yourself and name the folder in data.path."
                )
            members[name] = member
    return found


def _choose(
    found: Found, layouts: Sequence[Layout], place: Path
) -> tuple[str, Layout, dict[str, Any]]:
    """The one complete layout: the folder that has it, its names, and its files with the genome."""
    choices = _complete(found, layouts)
    if len(choices) == 1:
        ((top, layout),) = choices
        files = {name: found[top][name] for name in (*layout, GENOME) if name in found[top]}
        return top, layout, files
    if choices:
        listed = "; ".join(
            f"{' + '.join(layout)} in {printable(top) or 'the place itself'}"
            for top, layout in choices
        )
        raise InputError(
            f"{place} holds more than one set of ratings ({listed}): "
            "name the one you mean in data.path, or take the others away."
        )
    present = sorted({name for names in found.values() for name in names} - {GENOME})
    archives = sorted(path.name for path in place.glob("*.zip"))[:5]
    advice = f" data.path may name an archive itself: {', '.join(map(printable, archives))}."
    raise InputError(
        f"{place} does not hold the files needed: {_needed(layouts)}, together in it or in one "
        "folder inside it; an archive inside an archive is not opened. Found of these: "
        f"{', '.join(present) or 'none'}.{advice if archives else ''}"
    )


def _complete(found: Found, layouts: Sequence[Layout]) -> list[tuple[str, Layout]]:
    """The layouts whose files are all in one folder, each with the folder."""
    return [(top, names) for top in found for names in layouts if found[top].keys() >= {*names}]


def _needed(layouts: Sequence[Layout]) -> str:
    return ", or ".join(" + ".join(layout) for layout in layouts)
