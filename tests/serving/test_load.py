"""The client of a load test, on a server of the standard library that answers as vLLM's does."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
from PIL import Image

from unibench.errors import UsageError
from unibench.serving import bench
from unibench.serving.load import Ask, ask, closed, open_, picture
from unibench.serving.server import Address

ASK = Ask("what is red ?", (picture(Image.new("RGB", (56, 56)), 0),), 4)


class Stub(BaseHTTPRequestHandler):
    """Answers three tokens; a question may ask for something else."""

    asked: ClassVar[list[dict[str, Any]]] = []
    under_way: ClassVar[int] = 0
    most: ClassVar[int] = 0
    lock: ClassVar[threading.Lock] = threading.Lock()

    def do_GET(self) -> None:
        body = b'vllm:kv_cache_usage_perc{engine="0"} 0.25\nvllm:prefix_cache_hits_total 7\n'
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        question = request["messages"][0]["content"][-1]["text"]
        with self.lock:
            Stub.asked.append(request)
            Stub.under_way += 1
            Stub.most = max(Stub.most, Stub.under_way)
        try:
            self._answer(question)
        finally:
            with self.lock:
                Stub.under_way -= 1

    def _answer(self, question: str) -> None:
        if question == "too long":
            message = {"error": {"message": "This model's maximum context length is 1024 tokens."}}
            self._status(400, message)
        elif question == "full":
            self._status(503, {"error": {"message": "the queue is full"}})
        else:
            self.send_response(200)
            self.end_headers()
            for word in ("a", " red", " square"):
                time.sleep(0.002)
                self._event({"choices": [{"delta": {"content": word}}]})
                if question == "die":
                    return
            self._event({"choices": [], "usage": {"prompt_tokens": 50, "completion_tokens": 3}})
            self.wfile.write(b"data: [DONE]\n\n")

    def _event(self, event: dict[str, Any]) -> None:
        self.wfile.write(f"data: {json.dumps(event)}\n\n".encode())
        self.wfile.flush()

    def _status(self, status: int, body: dict[str, Any]) -> None:
        self.send_response(status)
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextmanager
def serving() -> Iterator[Address]:
    Stub.asked, Stub.most = [], 0
    server = ThreadingHTTPServer(("127.0.0.1", 0), Stub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield Address("127.0.0.1", server.server_address[1])
    finally:
        server.shutdown()
        server.server_close()


def asked(address: Address, question: str) -> Any:
    start = time.perf_counter()
    return ask(address, Ask(question, ASK.pictures), 0.0, start)


def test_an_answer_is_read_token_by_token_with_its_times() -> None:
    with serving() as address:
        told = asked(address, "what is red ?")
    assert (told.text, told.prompt, told.tokens, told.error) == ("a red square", 50, 3, "")
    assert told.ttft is not None and told.tpot is not None
    assert 0 < told.ttft < told.took and told.tpot == (told.took - told.ttft) / 2


@pytest.mark.parametrize(
    ("question", "words"),
    [
        ("too long", "HTTP 400: This model's maximum context length is 1024 tokens."),
        ("full", "HTTP 503: the queue is full"),
        ("die", "ended before the server had said its length"),
    ],
)
def test_a_client_sees_what_went_wrong_and_no_traceback(question: str, words: str) -> None:
    with serving() as address:
        told = asked(address, question)
    assert words in told.error and told.ttft is None and told.tokens == 0


def test_a_server_that_is_gone_is_an_error_of_the_request() -> None:
    with serving() as address:
        pass
    assert asked(address, "what is red ?").error.startswith("ConnectionRefusedError")


def test_a_closed_loop_has_no_more_under_way_than_its_width() -> None:
    with serving() as address:
        burst = closed(address, [ASK] * 6, 2)
        assert Stub.most <= 2
    assert len(burst.told) == 6 and not any(one.error for one in burst.told)


def test_an_open_loop_sends_when_a_request_is_due_whatever_is_under_way() -> None:
    with serving() as address:
        burst = open_(address, [ASK] * 5, 1000.0, seed=3)
    due = [one.begun for one in burst.told]
    assert due == sorted(due) and len(set(due)) == 5
    with serving() as address:
        again = open_(address, [ASK] * 5, 1000.0, seed=3)
    assert [one.begun for one in again.told] == due


def test_no_two_pictures_of_a_load_are_one_and_a_smaller_share_is_a_smaller_picture() -> None:
    image = Image.new("RGB", (112, 56), "blue")
    assert picture(image, 1) != picture(image, 2)
    assert picture(image, 1) == picture(image, 1)
    assert len(picture(image, 1, 560, share=0.25)) < len(picture(image, 1, 560))


def test_contenders_take_turns_and_are_asked_the_same() -> None:
    contenders = [bench.Contender("vanilla"), bench.Contender("resize 0.75", share=0.25)]
    given = bench.Bench(contenders, [bench.Load("closed", 1)], requests=2, rounds=2)
    with serving() as address:
        lines = given.run({one.name: address for one in contenders})
        # two to begin with for each, then vanilla and resize, then resize and vanilla
        rows = [request["messages"][0]["content"] for request in Stub.asked]
    questions = [row[-1]["text"] for row in rows[4:]]
    assert questions[0:2] == questions[2:4] and questions[4:6] == questions[6:8]
    large = [len(row[0]["image_url"]["url"]) for row in rows[4:]]
    assert large[0] > large[2] and large[4] < large[6]
    assert [line.requests for line in lines] == [4, 4] and lines[0].prompt == 50


@pytest.mark.slow
def test_the_page_has_a_line_for_each_load_and_what_clients_saw(tmp_path: Path) -> None:
    given = bench.Bench(
        [bench.Contender("vanilla")],
        [bench.Load("closed", 2), bench.Load("open", 500.0)],
        requests=3,
        rounds=3,
        limits=bench.Limits(ttft=1e6, total=1e6),
    )
    with serving() as address:
        lines = given.run({"vanilla": address})
    file = bench.kept(lines, given, "a stub", "the command", tmp_path)
    text = file.read_text()
    assert "| vanilla | 2 at once |" in text and "| vanilla | 500/s |" in text
    assert (tmp_path / "load.svg").stat().st_size > 1000
    # every answer is within such limits
    assert all(line.good == pytest.approx(line.rate[0]) for line in lines)
    assert "What clients saw" not in text


@pytest.mark.parametrize("url", ["localhost:8000", "https://somewhere/v1", "http://"])
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(UsageError, match="no http://host:port"):
        Address.of(url)


def test_a_url_is_taken_with_and_without_its_version() -> None:
    assert Address.of("http://127.0.0.1:8000/v1") == Address.of("http://127.0.0.1:8000")
