"""Opens a page of the file system in headless Chromium, with no way out of the machine."""

import contextlib
import os
import re
import shutil
import socketserver
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from xml.etree.ElementTree import Element, TreeBuilder

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# The browser calls its maker at every start, whatever the page and the switches.
MAKER = re.compile(r"\S+ (https?://)?[\w.-]+\.(google|googleapis|gvt1)\.com[:/]")
VOID = {"meta", "link", "img", "br", "hr", "input"}


@dataclass(frozen=True)
class Page:
    """What the browser made of a page: its elements, and the requests that it tried to send."""

    root: Element
    requests: list[str]


def charts(page: Page) -> dict[str, Element]:
    """The boxes of a page of `dvc plots` by their headings."""
    boxes = [*page.root.findall("body/main/div"), *page.root.findall("body/main/details/div")]
    return {heading: box for box in boxes if (heading := box.findtext(".//h2"))}


def find_browser() -> str:
    """Path of a Chromium; without one the test is skipped, or fails where `CI` is set."""
    for name in NAMES:
        if path := shutil.which(name):
            return path
    reason = f"none of {', '.join(NAMES)} is on PATH: install one to test the comparison page"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


def open_page(path: Path, profile: Path, width: int = 1280, dark: bool = False) -> Page:
    """Open `path`, let its scripts run to their end and return the page as it then stands.

    `profile` is a folder for the browser's own files, `width` that of the window in pixels, 500 or
    more; `dark` says that the person prefers dark pages. Requests go to a proxy that only notes
    them.
    """
    with _proxy() as (port, requests):
        switches = [
            "headless", "no-sandbox", "disable-gpu", "hide-scrollbars", "disable-quic",
            "disable-sync", "disable-component-update", "disable-background-networking",
            "no-first-run", f"window-size={width},720", "proxy-bypass-list=<-loopback>",
            f"proxy-server=127.0.0.1:{port}", f"user-data-dir={profile}",
            "virtual-time-budget=60000", "dump-dom",
            f"blink-settings=preferredColorScheme={not dark:d}",
        ]  # fmt: skip
        dumped = subprocess.check_output(
            [find_browser(), *(f"--{switch}" for switch in switches), path.as_uri()],
            stderr=subprocess.PIPE,
            encoding="utf-8",
            timeout=120,
        )
    tree = _Tree()
    tree.feed(dumped)
    return Page(tree.builder.close(), requests)


@contextlib.contextmanager
def _proxy() -> Iterator[tuple[int, list[str]]]:
    requests: list[str] = []

    class Note(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            request = self.rfile.readline().decode("latin-1").strip()
            # A connection that the browser opened in advance may close without a request.
            if request and not MAKER.match(request):
                requests.append(request)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Note) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_address[1], requests
        finally:
            server.shutdown()
            thread.join()


class _Tree(HTMLParser):
    """Elements from Chromium's dump, which closes every element but the void ones."""

    def __init__(self) -> None:
        super().__init__()
        self.builder = TreeBuilder()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.builder.start(tag, {name: value or "" for name, value in attrs})
        if tag in VOID:
            self.builder.end(tag)

    def handle_endtag(self, tag: str) -> None:
        self.builder.end(tag)

    def handle_data(self, data: str) -> None:
        self.builder.data(data)
