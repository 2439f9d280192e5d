"""The judge's door against a stand-in on loopback that fails in every way that endpoints do."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import repeat
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from unibench.config import JudgeConfig
from unibench.errors import UsageError
from unibench.harness.child import judge as judge_module
from unibench.harness.child.judge import JudgeProxy

KEY = "sk-very-secret"


class Endpoint:
    """Answers as scripted, then with a word.

    Attributes:
        script: status and body of the next answers; a number alone is seconds to wait first.
        first: the same, one for each question when it comes for the first time.
        word: the answer when the script is over, by the text of the question.
        seen: every request.
    """

    def __init__(self) -> None:
        self.script: list[Any] = []
        self.first: Iterator[Any] = repeat(None)
        self.word: Callable[[str], str] = lambda text: "right"
        self.seen: list[dict[str, Any]] = []
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                known = any(body == request["body"] for request in endpoint.seen)
                endpoint.seen.append(
                    {"body": body, "key": self.headers["authorization"], "path": self.path}
                )
                step = (
                    endpoint.script.pop(0)
                    if endpoint.script
                    else None
                    if known
                    else next(endpoint.first)
                )
                status, answer = 200, completion(endpoint.word(text_of(body)))
                if isinstance(step, float):
                    time.sleep(step)
                elif step is not None:
                    status, answer = step
                try:
                    self.send_response(status)
                    self.end_headers()
                    self.wfile.write(answer.encode())
                except BrokenPipeError:
                    pass

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def judge(self) -> JudgeConfig:
        url = f"http://127.0.0.1:{self.server.server_port}/v1"
        return JudgeConfig("endpoint", "judge-1", url, "JUDGE_KEY", timeout=0.5, retries=3)


def text_of(body: dict[str, Any]) -> str:
    """What the last message of a request says, pictures left out."""
    content = body["messages"][-1]["content"]
    return (
        content if isinstance(content, str) else "".join(part.get("text", "") for part in content)
    )


def completion(text: str) -> str:
    return json.dumps({"choices": [{"message": {"role": "assistant", "content": text}}]})


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[Endpoint]:
    monkeypatch.setattr(judge_module, "FIRST_WAIT", 0.01)
    monkeypatch.setenv("JUDGE_KEY", KEY)
    found = Endpoint()
    yield found
    found.server.shutdown()


def asked(text: str, model: str = "gpt-4o") -> str:
    """What a harness does: the usual variables, the usual request."""
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": text}]}).encode()
    headers = {"authorization": f"Bearer {os.environ['OPENAI_API_KEY']}"}
    with urlopen(Request(os.environ["OPENAI_API_URL"], body, headers), timeout=30) as response:
        return str(json.loads(response.read())["choices"][0]["message"]["content"])


def test_a_question_reaches_the_endpoint_with_its_own_key_and_model(
    endpoint: Endpoint, tmp_path: Path
) -> None:
    with JudgeProxy().judging(endpoint.judge, tmp_path) as cell:
        assert asked("2+2?") == "right"
        assert KEY not in os.environ.values()
    assert (
        endpoint.seen[0]["key"] == f"Bearer {KEY}"
        and endpoint.seen[0]["body"]["model"] == "judge-1"
    )
    assert endpoint.seen[0]["path"] == "/v1/chat/completions" and cell.answered == 1
    assert KEY not in (tmp_path / "judge.jsonl").read_text()
    assert os.environ["JUDGE_KEY"] == KEY


@pytest.mark.parametrize(
    "trouble",
    [
        (500, "no"),
        (429, "slow down"),
        (200, "not json"),
        (200, "{}"),
        (200, completion("")),
        (200, completion(" ")),
        1.0,
    ],
    ids=["500", "429", "no json", "no choices", "empty", "blank", "slow"],
)
def test_trouble_is_tried_again(endpoint: Endpoint, tmp_path: Path, trouble: Any) -> None:
    endpoint.script = [trouble, trouble]
    with JudgeProxy().judging(endpoint.judge, tmp_path):
        assert asked("2+2?") == "right"
    assert len(endpoint.seen) == 3


def test_an_endpoint_that_never_answers_fails_the_cell_and_keeps_the_replies(
    endpoint: Endpoint, tmp_path: Path
) -> None:
    endpoint.script = [(200, completion("first")), *[(500, "no")] * 4]
    with pytest.raises(UsageError, match="left 1 questions without a reply: HTTP 500"):
        with JudgeProxy().judging(endpoint.judge, tmp_path):
            assert asked("one") == "first"
            with pytest.raises(HTTPError):  # a harness would go on by another rule
                asked("two")
    with JudgeProxy().judging(endpoint.judge, tmp_path):
        assert (asked("one"), asked("two")) == ("first", "right")
    assert [seen["body"]["messages"][0]["content"] for seen in endpoint.seen] == ["one"] + [
        "two"
    ] * 5


def test_a_harness_that_tries_again_itself_makes_up_for_it(
    endpoint: Endpoint, tmp_path: Path
) -> None:
    endpoint.script = [(500, "no")] * 4
    with JudgeProxy().judging(endpoint.judge, tmp_path):
        with pytest.raises(HTTPError):
            asked("one")
        assert asked("one") == "right"


def test_a_torn_reply_is_asked_again(endpoint: Endpoint, tmp_path: Path) -> None:
    (tmp_path / "judge.jsonl").write_text('{"request": "half')
    with JudgeProxy().judging(endpoint.judge, tmp_path):
        assert asked("one") == "right"
    with JudgeProxy().judging(endpoint.judge, tmp_path):
        assert asked("one") == "right"
    assert len(endpoint.seen) == 1


def test_a_harness_that_asks_a_judge_unasked_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="asked a judge although the judge is exact"):
        with JudgeProxy().judging(JudgeConfig("exact"), tmp_path) as cell:
            assert cell.url is None
            with pytest.raises(HTTPError):
                asked("2+2?")


def test_a_missing_key_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JUDGE_KEY", raising=False)
    with pytest.raises(UsageError, match="read from \\$JUDGE_KEY, which is not set"):
        with JudgeProxy().judging(
            JudgeConfig("endpoint", "m", "http://localhost:1/v1", "JUDGE_KEY"), tmp_path
        ):
            pass
