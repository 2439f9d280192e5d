"""A page that follows a running grid, served to this machine alone."""

from __future__ import annotations

import json
import mimetypes
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources
from pathlib import Path

from unibench.errors import UsageError
from unibench.page.follow import Follower

HOST = "127.0.0.1"
SECONDS = 2.0  # between looks; longer where a look takes long
SHARE = 0.2  # of the time at most that is spent looking: the workers need the machine
FILES = re.compile(r"index\.html|details/(cell|questions)\d+\.js|pictures/[0-9a-f]{16}\.webp")
POLICY = (
    "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none';"
    " style-src 'self'; script-src 'self'; connect-src 'self'"
)


class Following:
    """What the server shows: the latest snapshot, and the explorer of what is finished.

    Args:
        follower: that looks.
        out: folder of the results.
        to: folder of the explorer.
    """

    def __init__(self, follower: Follower, out: Path, to: Path) -> None:
        self._follower, self._out, self.to = follower, out, to
        self._building = threading.Lock()
        self._built = -1
        self._done = 0
        self.state = "{}"
        self.look()

    def look(self) -> float:
        """Take a snapshot; returns the seconds that it took."""
        start = time.monotonic()
        snapshot = self._follower.snapshot()
        self._done = snapshot.states.get("done", 0)
        self.state = json.dumps({"out": str(self._out), **asdict(snapshot)})
        return time.monotonic() - start

    def explorer(self) -> str:
        """Build the explorer if more is finished than it shows; returns why it cannot be built."""
        with self._building:
            if self._built == self._done:
                return ""
            done = self._done
            # a process of its own: it loads torch, and its memory goes with it
            command = [
                sys.executable,
                "-m",
                "unibench",
                "page",
                f"out={self._out}",
                f"to={self.to}",
            ]
            ran = subprocess.run(command, capture_output=True, text=True, check=False)
            if ran.returncode:
                return ran.stderr.strip() or "the page could not be built"
            self._built = done
            return ""


def serve(
    follower: Follower,
    out: Path,
    port: int,
    ready: Callable[[str], None],
    stop: threading.Event | None = None,
) -> None:
    """Serve until the process is interrupted, or ``stop`` is set.

    Args:
        follower: of the grid.
        out: folder of its results.
        port: of this machine; 0 takes a free one.
        ready: is told the address.
        stop: ends it.

    Raises:
        UsageError: the port is taken.
    """
    ended = stop or threading.Event()
    with tempfile.TemporaryDirectory(prefix="unibench-page-") as to:
        following = Following(follower, out, Path(to))
        handler = type("Handler", (_Handler,), {"following": following})
        try:
            server = ThreadingHTTPServer((HOST, port), handler)
        except OSError as error:
            raise UsageError(
                f"--port {port}: {error.strerror}; --port 0 takes a free one"
            ) from None
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        ready(f"http://{HOST}:{server.server_address[1]}/")
        try:
            took = 0.0
            while not ended.wait(max(SECONDS, took / SHARE)):
                took = following.look()
        finally:
            server.shutdown()
            server.server_close()


class _Handler(BaseHTTPRequestHandler):
    """Answers from the snapshot; nothing that is asked reaches a file but by a known name."""

    following: Following

    def do_GET(self) -> None:
        # a name that leads here from elsewhere is another site's script that wants to read
        if self.headers.get("Host", "").rpartition(":")[0] not in (HOST, "localhost"):
            self._send(
                HTTPStatus.FORBIDDEN, b"this page is served to its own machine", "text/plain"
            )
            return
        path = self.path.partition("?")[0]
        if path == "/state.json":
            self._send(HTTPStatus.OK, self.following.state.encode(), "application/json")
        elif path in ("/", "/live.js", "/live.css"):
            name = "live.html" if path == "/" else path[1:]
            self._send(HTTPStatus.OK, _part(name), mimetypes.guess_type(name)[0] or "text/plain")
        elif path.startswith("/page/"):
            self._page(path.removeprefix("/page/") or "index.html")
        else:
            self._send(HTTPStatus.NOT_FOUND, b"there is no such page", "text/plain")

    def _page(self, name: str) -> None:
        if not FILES.fullmatch(name):
            self._send(HTTPStatus.NOT_FOUND, b"there is no such page", "text/plain")
            return
        fault = self.following.explorer() if name == "index.html" else ""
        file = self.following.to / name
        if fault or not file.is_file():
            said = fault or "this page has no such file"
            self._send(HTTPStatus.NOT_FOUND, said.encode(), "text/plain")
            return
        kind = "image/webp" if name.endswith(".webp") else mimetypes.guess_type(name)[0]
        # the page carries its own policy, with the hashes of its scripts
        self._send(HTTPStatus.OK, file.read_bytes(), kind or "text/plain", policy="")

    def _send(self, status: HTTPStatus, body: bytes, kind: str, policy: str = POLICY) -> None:
        self.send_response(status)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        if policy:
            self.send_header("Content-Security-Policy", policy)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """A browser asks every two seconds: nothing of it is worth a line."""


def _part(name: str) -> bytes:
    return resources.files("unibench.page").joinpath("templates", name).read_bytes()
