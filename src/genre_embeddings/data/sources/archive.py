"""Find a source's files in a folder or a zip archive, and unpack just those.

A file is recognised by its base name, in the place itself or in one folder inside it. Names inside
an archive are never used as paths: a member is copied to a name of our own in a temporary folder.

Only what DVC records as a dependency is read: the place that `data.path` names in this copy of the
project, whose content DVC hashes. The copy in which a queued experiment runs lacks files that
neither git nor DVC tracks; such an experiment is refused.
"""

from __future__ import annotations

import itertools
import lzma
import os
import shlex
import shutil
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from genre_embeddings.data.sources.base import printable, shown
from genre_embeddings.errors import InputError

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


def untracked(path: str) -> Path | None:
    """`path` in DVC's main checkout, if this is an experiment's copy of the project."""
    root = os.environ.get("DVC_ROOT")
    if not root or Path(path).is_absolute() or Path(root).resolve() == Path.cwd().resolve():
        return None
    return Path(root) / path


def require_tracked(place: Path, elsewhere: Path | None, layouts: Sequence[Layout]) -> None:
    """Refuse a copy of the project that lacks files of a layout, or the archive.

    Args:
        place: a folder or an archive.
        elsewhere: the same in DVC's main checkout, see `untracked`.
        layouts: the file names of each layout that will do.

    Raises:
        InputError: a file lies in the main checkout only.
    """
    if elsewhere is None or not elsewhere.exists():
        return
    found = _in_folder(elsewhere, layouts) if elsewhere.is_dir() else {}
    complete = _complete(found, layouts)[:1]
    wanted = [found[top][name] for top, layout in complete for name in layout] or [elsewhere]
    missing = sorted(p for p in wanted if not (place / p.relative_to(elsewhere)).exists())
    if missing:
        names = [os.path.relpath(path, os.environ["DVC_ROOT"]) for path in missing]
        raise InputError(
            f"{printable(', '.join(names))} is missing in this experiment's copy of the project, "
            f"because neither git nor DVC tracks it: run `dvc add {shlex.join(names)}` and start "
            "the experiment again, or give an absolute path in data.path."
        )


def require_seen(folder: Path) -> None:
    """Refuse a folder inside another one if DVC does not see what changes in it.

    DVC follows no link to a folder inside the one that it hashes, and leaves out other projects.

    Raises:
        InputError: it is such a folder.
    """
    if folder.is_symlink() or (folder / ".dvc").is_dir():
        reason = "a link to a folder" if folder.is_symlink() else "another DVC project"
        raise InputError(
            f"{printable(folder)} is {reason}, so that DVC does not notice changes in it: name "
            "it in data.path, or put the files themselves there."
        )


@contextmanager
def open_files(
    place: Path, layouts: Sequence[Layout], extras: Layout = ()
) -> Iterator[tuple[Layout, dict[str, File]]]:
    """The files of the one layout in a folder or zip archive, ready to be scanned.

    Args:
        place: a folder or a zip archive; the files lie in it or in one folder inside it.
        layouts: the file names of each layout that will do.
        extras: names of files that are opened as well, where an archive has them beside the
            layout's. In a folder they are left alone: the copy of the project in which an
            experiment runs may lack them, and would take an earlier run's result for its own.

    Yields:
        The layout found, and its files by name; unpacked ones live as long as the context.

    Raises:
        InputError: no layout is complete, several are, or the archive cannot be read.
    """
    if not place.exists():
        raise InputError(
            f"data.path is {str(place)!r}, and nothing is there; allowed: a folder or a zip "
            f"archive with {_needed(layouts)}. Correct data.path, or set data.source to planted."
        )
    if place.is_dir():
        layout, paths = _choose(_in_folder(place, layouts), layouts, place)
        for name in extras:
            if (extra := paths[layout[0]].parent / name).is_file():
                print(
                    f"{printable(extra)} is not read: pack the files in a zip archive",
                    file=sys.stderr,
                )
        yield layout, {name: File(path, printable(path)) for name, path in paths.items()}
        return
    with tempfile.TemporaryDirectory(prefix="genre-embeddings-") as folder:
        try:
            opened = _unpack(place, layouts, extras, Path(folder))
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
                f"in data.path: a folder or a zip archive with {_needed(layouts)}. Put the files "
                "into a folder and name it, or pack them again."
            ) from None
        yield opened


def _unpack(
    place: Path, layouts: Sequence[Layout], extras: Layout, folder: Path
) -> tuple[Layout, dict[str, File]]:
    files = {}
    with zipfile.ZipFile(place) as archive:
        found = _in_archive(archive, [*layouts, extras], place)
        layout, members = _choose(found, layouts, place, extras)
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
    inside = sorted(entry.name for entry in place.iterdir() if entry.is_dir())
    names = {name for layout in layouts for name in layout}
    return {
        top: {name: place / top / name for name in names if (place / top / name).is_file()}
        for top in ["", *inside]
        # DVC ignores such folders, so that it would not see a change.
        if top[:1] != "." and top != "__pycache__"
    }


def _in_archive(archive: zipfile.ZipFile, layouts: Sequence[Layout], place: Path) -> Found:
    found: Found = {}
    for member in archive.infolist():
        # Some Windows programs write backslashes.
        *folders, name = member.filename.replace("\\", "/").split("/")
        folders = [folder for folder in folders if folder not in ("", ".")]
        if len(folders) < 2 and any(name in layout for layout in layouts):
            members = found.setdefault("".join(folders), {})
            if name in members:
                raise InputError(
                    f"{place}: {shown(member.filename)} stands twice in the archive: pack it "
                    "again, or unpack it yourself and name the folder in data.path."
                )
            members[name] = member
    return found


def _choose(
    found: Found, layouts: Sequence[Layout], place: Path, extras: Layout = ()
) -> tuple[Layout, dict[str, Any]]:
    """The one complete layout, in the place itself or in a folder inside."""
    choices = _complete(found, layouts)
    if len(choices) == 1:
        ((top, layout),) = choices
        if top and place.is_dir():
            require_seen(place / top)
        return layout, {n: found[top][n] for n in (*layout, *extras) if n in found[top]}
    if choices:
        listed = "; ".join(
            f"{' + '.join(layout)} in {printable(top) or 'the place itself'}"
            for top, layout in choices
        )
        raise InputError(
            f"{place} holds more than one set of ratings ({listed}): "
            "name the one you mean in data.path, or take the others away."
        )
    present = {name for names in found.values() for name in names} - set(extras)
    advice = ""
    if place.is_dir() and (inside := sorted(path.name for path in place.iterdir())):
        archives = [name for name in inside if name.endswith(".zip")]
        listed = ", ".join(map(printable, (archives or inside)[:5]))
        advice = f" It holds {listed}{': data.path may name an archive itself' * bool(archives)}."
    raise InputError(
        f"{place} does not hold the files needed: {_needed(layouts)}, together in it or in one "
        "folder inside it; an archive inside an archive is not opened. Found of these: "
        f"{', '.join(sorted(present)) or 'none'}.{advice}"
    )


def _complete(found: Found, layouts: Sequence[Layout]) -> list[tuple[str, Layout]]:
    whole = itertools.product(found, layouts)
    return [(top, layout) for top, layout in whole if found[top].keys() >= set(layout)]


def _needed(layouts: Sequence[Layout]) -> str:
    return ", or ".join(" + ".join(layout) for layout in layouts)
