"""What a client of a pruning server sees when something goes wrong. Real servers: minutes."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from tests.serving.serving_environment import python
from unibench.errors import UsageError
from unibench.serving.checkpoints import made
from unibench.serving.load import Ask, Told, ask, picture
from unibench.serving.server import Server
from unibench.serving.settings import Settings

pytestmark = pytest.mark.slow
OPTIONS = (
    *("--dtype", "float32", "--enforce-eager", "--max-model-len", "256", "--max-num-seqs", "2"),
    *("--block-size", "32", "--limit-mm-per-prompt", '{"image": 1, "video": 0}'),
)
WAIT = 1800.0
QUESTION = "what shape is left of the circle ?"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made("qwen2_5_vl", tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def server(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    log = tmp_path_factory.mktemp("logs") / "server.log"
    settings = Settings("divprune", ratio="0.667")
    options = (*OPTIONS, "--max-num-queued-reqs", "4")
    with Server(python(), folder, settings, log, options) as started:
        started.wait(WAIT)
        yield started


def told(server: Server, request: Ask) -> Told:
    return ask(server.address, request, 0.0, time.perf_counter())


def shown(seed: int) -> str:
    return picture(Image.new("RGB", (336, 336), "white"), seed)


def test_a_picture_is_answered_from_the_tokens_that_stay(server: Server) -> None:
    one = told(server, Ask(QUESTION, (shown(0),), 4))
    text = told(server, Ask(QUESTION, (), 4))
    assert not one.error and not text.error
    # 144 tokens of a picture, of which a third stays, and the marks around it
    assert one.prompt - text.prompt == 48 + 2


def test_text_alone_is_answered_as_by_any_server(server: Server) -> None:
    one = told(server, Ask(QUESTION, (), 4))
    assert not one.error and one.tokens >= 1


def test_a_second_picture_beyond_the_limit_is_refused_by_name(server: Server) -> None:
    one = told(server, Ask(QUESTION, (shown(1), shown(2)), 4))
    assert one.error.startswith("HTTP 400") and "image" in one.error


def test_a_request_that_is_larger_than_the_context_is_refused(server: Server) -> None:
    one = told(server, Ask(" ".join(["circle"] * 400), (shown(3),), 4))
    assert one.error.startswith("HTTP 400") and "256" in one.error


def test_a_full_queue_is_told_and_the_server_lives_on(server: Server) -> None:
    found: list[Told] = []
    asks = [Ask(QUESTION, (shown(10 + number),), 64) for number in range(24)]
    threads = [
        threading.Thread(target=lambda one=one: found.append(told(server, one))) for one in asks
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    refused = [one for one in found if one.error]
    # of a stream the status is sent before the queue is asked: the error comes as an event
    assert refused and all("currently busy" in one.error for one in refused)
    assert not told(server, Ask(QUESTION, (), 4)).error


def test_a_wrong_method_name_ends_the_server_before_anything_is_loaded(
    folder: Path, tmp_path: Path
) -> None:
    log = tmp_path / "server.log"
    settings = replace(Settings("divprune", ratio="0.5"), method="divprun")
    with Server(python(), folder, settings, log, OPTIONS) as started:
        with pytest.raises(UsageError, match="the server ended with code"):
            started.wait(WAIT)
    text = log.read_text(errors="replace")
    assert "divprun" in text and "divprune" in text and "Loading weights" not in text


def test_a_killed_server_is_an_error_of_the_request_and_no_hang(server: Server) -> None:
    found: list[Told] = []
    request = Ask(QUESTION, (shown(99),), 200)
    thread = threading.Thread(target=lambda: found.append(told(server, request)))
    server.kill(signal.SIGSTOP)  # so that no machine is fast enough to answer before the end
    thread.start()
    time.sleep(0.2)
    assert thread.is_alive()
    server.kill(signal.SIGKILL)
    thread.join(60)
    assert not thread.is_alive() and found[0].error
    assert told(server, Ask(QUESTION, (), 4)).error.startswith("ConnectionRefusedError")
