"""Licences of all pinned packages, from their own metadata: `python -m tests.licences`."""

from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SPDX = {
    "3-Clause BSD License": "BSD-3-Clause",
    "Apache 2.0": "Apache-2.0",
    "Apache License 2.0": "Apache-2.0",
    "Apache Software License": "Apache-2.0",
    "BSD License": "BSD",
    "MIT License": "MIT",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Python Software Foundation License": "PSF-2.0",
    "Zope Public License": "ZPL-2.1",
}
"""What older metadata say, in the terms of spdx.org/licenses; "BSD" does not say which."""
SAID_ELSEWHERE = {
    "grandalf": "GPL-2.0-only OR EPL-1.0",
    "python-dateutil": "Apache-2.0 OR BSD-3-Clause",
}
"""Where a licence's field says less than its text: those that leave the choice."""


def pinned() -> dict[str, str]:
    """Names and versions in constraints.txt."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pairs = (line.partition("==") for line in lines if line and not line.startswith("#"))
    return {name: version for name, _, version in pairs}


def by_licence() -> dict[str, list[str]]:
    """Installed packages by licence, as far as possible in SPDX's terms."""
    found: dict[str, list[str]] = {}
    for name in pinned():
        try:
            about = metadata(name)
        except PackageNotFoundError:
            continue
        lines = [line.split(" :: ") for line in about.get_all("Classifier") or []]
        said = [parts[-1] for parts in lines if parts[0] == "License" and len(parts) > 2]
        said = said or [about.get("License", "unknown")]
        classified = " AND ".join(sorted({SPDX.get(one, one) for one in said}))
        licence = SAID_ELSEWHERE.get(name) or about.get("License-Expression") or classified
        found.setdefault(licence, []).append(name)
    return found


def table() -> str:
    """Markdown: a row for each licence with its packages."""
    rows = [
        f"| {licence} | {', '.join(names)} |" for licence, names in sorted(by_licence().items())
    ]
    return "\n".join(["| licence | packages |", "| --- | --- |", *rows])


if __name__ == "__main__":
    print(table())
