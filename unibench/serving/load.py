"""Requests to a server: pictures and videos that are new to it, streamed answers, times of each."""

from __future__ import annotations

import base64
import contextlib
import http.client
import io
import json
import math
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from unibench.serving.server import NAME, Address, metrics

SECONDS = 300.0  # that a request may take
NOISE = 8  # side of the patch by which a picture differs from all others


@dataclass(frozen=True)
class Ask:
    """A request.

    Attributes:
        question: text.
        pictures: encoded, as data addresses.
        max_tokens: of the answer.
        videos: encoded, as data addresses.
        whole: whether the answer goes on to ``max_tokens`` whatever the model says, so that
            answers of pruned prompts are as long as others.
    """

    question: str
    pictures: tuple[str, ...]
    max_tokens: int = 16
    videos: tuple[str, ...] = ()
    whole: bool = False

    def body(self) -> bytes:
        """As the server takes it."""
        content: list[dict[str, Any]] = [
            {"type": "image_url", "image_url": {"url": url}} for url in self.pictures
        ]
        content += [{"type": "video_url", "video_url": {"url": url}} for url in self.videos]
        content.append({"type": "text", "text": self.question})
        request: dict[str, Any] = {
            "model": NAME,
            "messages": [{"role": "user", "content": content}],
            "temperature": 0,
            "max_tokens": self.max_tokens,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        if self.whole:
            # vLLM's, beside what OpenAI has; an end that is only ignored is an answer without text,
            # whose first token no client sees
            request["min_tokens"] = self.max_tokens
        return json.dumps(request).encode()


@dataclass(frozen=True)
class Told:
    """What became of a request. Times are seconds from the moment at which it was due.

    Attributes:
        begun: when it was due, from the start of the load.
        ttft: until the first token; None if none came.
        took: until the last.
        text: of the answer.
        prompt, tokens: of prompt and answer, as the server counts them.
        error: what the client sees where the request failed.
    """

    begun: float
    ttft: float | None
    took: float
    text: str = ""
    prompt: int = 0
    tokens: int = 0
    error: str = ""

    @property
    def tpot(self) -> float | None:
        """Seconds for each token after the first."""
        if self.ttft is None or self.tokens < 2:
            return None
        return (self.took - self.ttft) / (self.tokens - 1)


@dataclass(frozen=True)
class Burst:
    """A load and what became of it.

    Attributes:
        told: of each request.
        seconds: from the first to the last.
        kv: the largest share of the key-value cache that was in use; None if the server does not
            say.
        cached: prompt tokens from the prefix cache, by the server's count.
    """

    told: tuple[Told, ...]
    seconds: float
    kv: float | None = None
    cached: float | None = None


def picture(image: Image.Image, seed: int, side: int | None = None, share: float = 1.0) -> str:
    """A picture that no server has seen.

    Args:
        image: to start from.
        seed: another one is another picture.
        side: its longer side in pixels.
        share: of its pixels that are kept: the resize control.
    """
    file = io.BytesIO()
    _new(image, seed, side, share).save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def clip(
    images: Sequence[Image.Image], seed: int, side: int | None = None, share: float = 1.0
) -> str:
    """A video that no server has seen, as its frames: vLLM takes ``video/jpeg`` with commas between
    them, and needs no decoder of videos then.

    Args:
        images: its frames.
        seed: another one is another video; all frames have the same mark, which does not move.
        side: their longer side in pixels.
        share: of their pixels that are kept: the resize control.
    """
    frames = list[str]()
    for image in images:
        file = io.BytesIO()
        _new(image, seed, side, share).save(file, "JPEG", quality=90)
        frames.append(base64.b64encode(file.getvalue()).decode())
    return "data:video/jpeg;base64," + ",".join(frames)


def _new(image: Image.Image, seed: int, side: int | None, share: float) -> Image.Image:
    """A picture in its size, with a patch by which it differs from all others."""
    image = image.convert("RGB")
    scale = 1.0 if side is None else side / max(image.size)
    sizes = [max(28, round(length * scale * math.sqrt(share))) for length in image.size]
    image = image.resize((sizes[0], sizes[1]))
    pixels = np.array(image)
    noise = np.random.default_rng(seed).integers(0, 255, (NOISE, NOISE, 3))
    pixels[:NOISE, :NOISE] = noise
    return Image.fromarray(pixels)


def ask(address: Address, request: Ask, due: float, start: float) -> Told:
    """Send a request and read its answer.

    Args:
        address: of the server.
        request: what is asked.
        due: when it should be sent, in seconds after ``start``.
        start: of the load, by ``time.perf_counter``.
    """
    first: float | None = None
    text, usage = list[str](), dict[str, int]()
    # a connection for each: a kept one that the server has just closed fails the request
    connection = http.client.HTTPConnection(address.host, address.port, timeout=SECONDS)
    try:
        with contextlib.closing(connection):
            headers = {"Content-Type": "application/json"}
            path = f"{address.path}/v1/chat/completions"
            connection.request("POST", path, request.body(), headers)
            reply = connection.getresponse()
            if reply.status != 200:
                return _failed(due, start, f"HTTP {reply.status}: {_reason(reply.read())}")
            for part in _parts(reply):
                if "error" in part:
                    return _failed(due, start, _reason(json.dumps(part).encode()))
                usage = part.get("usage") or usage
                for choice in part.get("choices", ()):
                    if piece := choice["delta"].get("content"):
                        first = first or time.perf_counter() - start - due
                        text.append(piece)
    except (OSError, http.client.HTTPException) as error:
        return _failed(due, start, f"{type(error).__name__}: {error}")
    took = time.perf_counter() - start - due
    if not usage:  # the server died in the middle of the answer
        return _failed(due, start, "the answer ended before the server had said its length")
    return Told(
        due,
        first,
        took,
        "".join(text).strip(),
        usage.get("prompt_tokens", 0),
        usage.get("completion_tokens", 0),
    )


def _failed(due: float, start: float, error: str) -> Told:
    return Told(due, None, time.perf_counter() - start - due, error=error)


def _parts(reply: http.client.HTTPResponse) -> Iterator[dict[str, Any]]:
    """The events of a stream."""
    for line in reply:
        if line.startswith(b"data: ") and line.strip() != b"data: [DONE]":
            part: dict[str, Any] = json.loads(line[6:])
            yield part


def _reason(body: bytes) -> str:
    """What the server says of an error, in a line."""
    with contextlib.suppress(ValueError, TypeError, AttributeError):
        error = json.loads(body)
        error = error.get("error", error)
        return " ".join(str(error["message"]).split())[:300]
    return " ".join(body.decode(errors="replace").split())[:300]


def closed(address: Address, asks: Sequence[Ask], width: int) -> Burst:
    """A closed loop: ``width`` requests are under way until all are answered."""
    start = time.perf_counter()

    def one(request: Ask) -> Told:
        return ask(address, request, time.perf_counter() - start, start)

    with _watched(address) as seen, ThreadPoolExecutor(width) as pool:
        told = tuple(pool.map(one, asks))
    return Burst(told, time.perf_counter() - start, *seen())


def open_(address: Address, asks: Sequence[Ask], rate: float, seed: int) -> Burst:
    """An open loop: requests arrive at random, ``rate`` a second on average, whatever the server
    has still to do. One that is sent late counts from when it was due.
    """
    draw, due, times = random.Random(seed), 0.0, list[float]()
    for _ in asks:
        due += draw.expovariate(rate)
        times.append(due)
    start = time.perf_counter()

    def one(pair: tuple[Ask, float]) -> Told:
        request, moment = pair
        time.sleep(max(0.0, moment - (time.perf_counter() - start)))
        return ask(address, request, moment, start)

    with _watched(address) as seen, ThreadPoolExecutor(len(asks)) as pool:
        told = tuple(pool.map(one, zip(asks, times, strict=True)))
    return Burst(told, time.perf_counter() - start, *seen())


KV = ("vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc")
HITS = ("vllm:prefix_cache_hits_total", "vllm:prefix_cache_hits")


@contextlib.contextmanager
def _watched(address: Address) -> Iterator[Callable[[], tuple[float | None, float | None]]]:
    """Watch the server's counters; gives what tells the most cache in use, and tokens of hits."""
    before, most, ended = metrics(address), list[float](), threading.Event()

    def watch() -> None:
        while not ended.wait(0.25):
            now = metrics(address)
            most.extend(now[name] for name in KV if name in now)

    def seen() -> tuple[float | None, float | None]:
        after = metrics(address)
        name = next((name for name in HITS if name in after), None)
        hits = None if name is None else after[name] - before.get(name, 0.0)
        return max(most, default=None), hits

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield seen
    finally:
        ended.set()
        watcher.join()
