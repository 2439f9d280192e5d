"""The judge proxy: harnesses ask a server on this machine, which alone knows the endpoint and its
key.

It retries, waits, and remembers every reply in ``judge.jsonl`` of the cell; a question that gets no
reply fails the cell, where the harnesses would go on with another rule.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import HTTPRedirectHandler, HTTPSHandler, Request, build_opener

from unibench.config import JudgeConfig
from unibench.credentials import secret_of
from unibench.errors import UsageError
from unibench.harness.child.workdir import variables
from unibench.store.data import parsed_json, read_bytes
from unibench.store.files import appending, replace
from unibench.store.lines import line_of, sound
from unibench.store.unpack import LIMITS

log = logging.getLogger(__name__)

LARGEST = 16 << 20  # bytes of a reply
FIRST_WAIT, LONGEST_WAIT = 0.5, 30.0  # seconds between attempts, doubled each time


class JudgedCell:
    """The judge of one cell.

    Attributes:
        url: of the proxy, None if rules alone score.
        answered: questions with a reply, remembered ones included.
        file: where the replies are kept.
    """

    def __init__(self, judge: JudgeConfig, folder: Path, url: str, key: str) -> None:
        self.judge, self.file, self._key = judge, folder / "judge.jsonl", key
        self.url = url if judge.kind == "endpoint" else None
        self.answered = 0
        self._lock = threading.Lock()
        self._replies = self._read()
        self._without: dict[str, str] = {}

    @property
    def label(self) -> str:
        """For the row."""
        return f"{self.judge.model} at {self.judge.url}" if self.url else self.judge.kind

    def reply(self, body: dict[str, Any]) -> dict[str, Any] | None:
        """The endpoint's reply to a request; None after every attempt failed."""
        if self.url is None:
            self._missed(
                "any", f"the harness asked a judge although the judge is {self.judge.kind}"
            )
            return None
        # harnesses name models of their own, which the endpoint may not have
        body = {**body, "model": self.judge.model}
        # by content: the same question of a resumed run has its reply already
        name = hashlib.blake2b(
            json.dumps(body, sort_keys=True).encode(), digest_size=12
        ).hexdigest()
        with self._lock:
            known = self._replies.get(name)
        found = known or self._asked(name, body)
        if found is not None and known is None:
            self._remember(name, found)
        if found is not None:
            with self._lock:
                self.answered += 1
                # a harness may ask again by itself, and succeed
                self._without.pop(name, None)
        return found

    def check(self) -> None:
        """Refuse a score that was made without the judge.

        Raises:
            UsageError: questions are without a reply.
        """
        if self._without:
            reason = next(iter(self._without.values()))
            raise UsageError(
                f"the judge {self.label} left {len(self._without)} questions without a reply:"
                f" {reason}. Every answer and every reply is kept; the same command asks the rest"
                " again"
            )

    def _asked(self, name: str, body: dict[str, Any]) -> dict[str, Any] | None:
        wait, reason = FIRST_WAIT, ""
        for attempt in range(1 + self.judge.retries):
            if attempt:
                time.sleep(wait)
                wait = min(LONGEST_WAIT, 2 * wait)
            try:
                return _completion(self.judge, self._key, body)
            # HTTPError and time-outs are OSErrors
            except (OSError, ValueError) as error:
                reason = (
                    f"HTTP {error.code}"
                    if isinstance(error, HTTPError)
                    else f"{type(error).__name__}: {error}"
                )
                log.warning("judge, attempt %d: %s", attempt + 1, reason)
        self._missed(name, reason)
        return None

    def _missed(self, name: str, reason: str) -> None:
        with self._lock:
            self._without[name] = reason

    def _remember(self, name: str, reply: dict[str, Any]) -> None:
        with self._lock:
            self._replies[name] = reply
            with appending(self.file) as stream:
                stream.write(line_of({"request": name, "reply": reply}))

    def _read(self) -> dict[str, dict[str, Any]]:
        """The replies so far; a line that is none is asked again."""
        try:
            # what follows the last newline was cut off by a kill
            *lines, torn = read_bytes(self.file, LIMITS["judge.jsonl"]).split(b"\n")
        except FileNotFoundError:
            return {}
        replies: dict[str, dict[str, Any]] = {}
        for line in lines:
            with suppress(ValueError, KeyError, TypeError):
                entry = parsed_json(sound(line) or b"")
                replies[str(entry["request"])] = dict(entry["reply"])
        if torn or len(replies) < len(lines):  # by a kill: what is added next begins a line
            entries = [{"request": name, "reply": reply} for name, reply in replies.items()]
            replace(self.file, b"".join(map(line_of, entries)))
        return replies


class JudgeProxy:
    """The server of one child; every cell brings its own judge."""

    def __init__(self) -> None:
        self._environment = dict(os.environ)
        self._cell: JudgedCell | None = None
        self._server: ThreadingHTTPServer | None = None

    @contextmanager
    def judging(self, judge: JudgeConfig, folder: Path) -> Iterator[JudgedCell]:
        """Harnesses inside the block find this server under the usual variables, and never see the
        key.

        Raises:
            UsageError: the key is missing; or, at the end, the judge left questions without a
                reply.
        """
        # from the environment of the start, since the block hides it
        key = secret_of(judge.key, self._environment)
        if judge.kind == "endpoint" and key is None:
            raise UsageError(
                f"the judge's key is read from {'' if '/' in judge.key else '$'}{judge.key}, which"
                " is not set; where none is wanted, set it to anything"
            )
        url = f"http://127.0.0.1:{self._port()}/v1/chat/completions"
        self._cell = cell = JudgedCell(judge, folder, url, key or "")
        shown = {
            # VLMEvalKit reads the first, lmms-eval's tasks the others
            "OPENAI_API_BASE": url,
            "OPENAI_API_URL": url,
            "API_TYPE": "openai",
            "MODEL_VERSION": judge.model or "none",
        }
        named = {} if "/" in judge.key else {judge.key: "hidden"}
        with variables({**shown, **named, "OPENAI_API_KEY": "hidden"}):
            yield cell
        cell.check()

    def _port(self) -> int:
        if self._server is None:
            proxy = self

            class Handler(BaseHTTPRequestHandler):
                def do_POST(self) -> None:
                    proxy.serve(self)

                def log_message(self, format: str, *args: Any) -> None:
                    log.debug(format, *args)

            # port 0: the system picks a free one, also beside other children
            self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
            self._server.daemon_threads = True
            threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self._server.server_port

    def serve(self, request: BaseHTTPRequestHandler) -> None:
        """Answer one request of a harness."""
        body = json.loads(request.rfile.read(int(request.headers["content-length"])))
        reply = None if self._cell is None else self._cell.reply(body)
        payload = json.dumps(reply or {"error": {"message": "the judge gave no reply"}}).encode()
        with contextlib.suppress(ConnectionError):  # a harness that no longer waits
            # 502 makes a harness try again or give up, and check() refuses its score either way
            request.send_response(200 if reply else 502)
            request.send_header("content-type", "application/json")
            request.send_header("content-length", str(len(payload)))
            request.end_headers()
            request.wfile.write(payload)


class _Straight(HTTPRedirectHandler):
    """Follows no redirection, which would take the key along to another server."""

    def redirect_request(self, *_: Any) -> None:
        return None


def _completion(judge: JudgeConfig, key: str, body: dict[str, Any]) -> dict[str, Any]:
    """One attempt.

    Raises:
        OSError: no answer in time, or a refusal.
        ValueError: the answer is no chat completion.
    """
    headers = {"content-type": "application/json", "authorization": f"Bearer {key}"}
    request = Request(
        f"{str(judge.url).rstrip('/')}/chat/completions", json.dumps(body).encode(), headers
    )
    # a context of its own: importing VLMEvalKit may have switched verification off
    opener = build_opener(_Straight, HTTPSHandler(context=ssl.create_default_context()))
    with opener.open(request, timeout=judge.timeout) as response:
        # some servers quote what they were sent, and a reply is kept
        found = json.loads(response.read(LARGEST).decode().replace(key or "\0", "***"))
    try:
        content = found["choices"][0]["message"]["content"]
    except (KeyError, IndexError, TypeError):
        content = None
    # an empty reply would be scored as wrong
    if not isinstance(content, str) or not content.strip():
        raise ValueError(f"no chat completion: {str(found)[:200]}")
    return {
        "model": judge.model,
        **found,
    }  # which some servers leave out, and lmms-eval's MIA-Bench wants
