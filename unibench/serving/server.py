"""An OpenAI-compatible server of vLLM on this machine, started and ended."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

from unibench.errors import UsageError
from unibench.paths import PACKAGE
from unibench.serving.settings import Settings

MODULE = "vllm.entrypoints.openai.api_server"  # `vllm serve` does not start from the CPU wheel
NAME = "served"  # of the model, in requests
GRACE_SECONDS = 30.0


@dataclass(frozen=True)
class Address:
    """Where a server listens.

    Attributes:
        host, port: of TCP.
        path: in front of ``/v1``.
    """

    host: str
    port: int
    path: str = ""

    @classmethod
    def of(cls, url: str) -> Address:
        """The address that a url names, its ``/v1`` or not.

        Raises:
            UsageError: it is no ``http://`` url with a host.
        """
        parts = urlsplit(url)
        if parts.scheme != "http" or not parts.hostname:
            raise UsageError(f"url={url} is no http://host:port")
        return cls(parts.hostname, parts.port or 80, parts.path.rstrip("/").removesuffix("/v1"))

    def get(self, path: str, timeout: float = 10.0) -> tuple[int, bytes]:
        """Status and body of a page.

        Raises:
            OSError: nobody listens.
        """
        connection = http.client.HTTPConnection(self.host, self.port, timeout=timeout)
        with contextlib.closing(connection):
            connection.request("GET", self.path + path)
            reply = connection.getresponse()
            return reply.status, reply.read()


class Server:
    """A server in a process of its own; it ends with the block.

    Args:
        python: interpreter of the serving environment.
        folder: of the checkpoint.
        settings: of pruning, None for vLLM's own class.
        log: for what it prints.
        options: further arguments of the server, ``--max-num-seqs 8``.
    """

    def __init__(
        self,
        python: str,
        folder: Path,
        settings: Settings | None,
        log: Path,
        options: Sequence[str] = (),
    ) -> None:
        self.address = Address("127.0.0.1", _free_port())
        command = [python, "-m", MODULE, "--model", str(folder), "--served-model-name", NAME]
        command += ["--host", self.address.host, "--port", str(self.address.port), *options]
        if settings is not None:
            command += ["--hf-overrides", json.dumps(settings.overrides(_architecture(folder)))]
        self._command, self._log = command, log
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Server:
        paths = [str(PACKAGE.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = {**ENVIRONMENT, **os.environ, "PYTHONPATH": os.pathsep.join(paths)}
        self._log.parent.mkdir(parents=True, exist_ok=True)
        with self._log.open("ab") as stream:
            self._process = subprocess.Popen(
                self._command, stdout=stream, stderr=stream, env=environment, start_new_session=True
            )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.kill(signal.SIGTERM)
        if self._process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(GRACE_SECONDS)
        self.kill(signal.SIGKILL)

    def kill(self, how: signal.Signals = signal.SIGKILL) -> None:
        """End the processes of this server."""
        if self._process is not None:
            # its own group, which its start made: the engine is a process beside it
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, how)

    def wait(self, limit: float) -> None:
        """Until it answers.

        Raises:
            UsageError: it ended, or did not answer in time.
        """
        end = time.monotonic() + limit
        while time.monotonic() < end:
            if self._process is not None and self._process.poll() is not None:
                code = self._process.returncode
                raise UsageError(f"the server ended with code {code}; the reason is in {self._log}")
            with contextlib.suppress(OSError, http.client.HTTPException):
                if self.address.get("/health")[0] == 200:
                    return
            time.sleep(0.5)
        raise UsageError(f"the server did not answer within {limit:.0f} s; see {self._log}")


ENVIRONMENT: Mapping[str, str] = {
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_LOGGING_LEVEL": "WARNING",
    "HF_HUB_OFFLINE": "1",
}


def metrics(address: Address) -> dict[str, float]:
    """The server's own counters by name, summed over their labels; none where it has no such
    page.
    """
    with contextlib.suppress(OSError, http.client.HTTPException):
        status, body = address.get("/metrics")
        if status == 200:
            return read_metrics(body.decode())
    return {}


def read_metrics(text: str) -> dict[str, float]:
    """Counters in the format of Prometheus.

    >>> read_metrics('# HELP a b\\na{engine="0"} 2\\na{engine="1"} 3.5\\nb 1')
    {'a': 5.5, 'b': 1.0}
    """
    found: dict[str, float] = {}
    for line in _lines(text):
        name, _, value = line.rpartition(" ")
        name = name.partition("{")[0]
        with contextlib.suppress(ValueError):
            found[name] = found.get(name, 0.0) + float(value)
    return found


def _lines(text: str) -> Iterator[str]:
    return (line for line in text.splitlines() if line and not line.startswith("#"))


def _free_port() -> int:
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        port: int = place.getsockname()[1]
        return port


def _architecture(folder: Path) -> str:
    config: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return str(config["architectures"][0])
