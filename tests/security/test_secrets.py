"""Secrets come from the environment or a file, by name, and are found nowhere that a run leaves."""

from __future__ import annotations

import io
import json
import logging
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar
from urllib.error import HTTPError

import pytest
import yaml

from tests.stats._cells import ENVIRONMENT
from tests.support.records import record
from tests.support.workers import Scripted
from unibench import credentials
from unibench.cli import main
from unibench.compose import compose_cells
from unibench.config import JudgeConfig
from unibench.credentials import FromEnvironment, hidden, secret_in, secret_of
from unibench.errors import UsageError
from unibench.harness.child.judge import _completion
from unibench.harness.job import read_job, write_job
from unibench.identity import Cell, cell_of
from unibench.inference.row import row_of
from unibench.registry import ROOT
from unibench.runner import work
from unibench.store import CellFolder, cells_below, judged
from unibench.store.cards import check_runnable

PLANTED = "Pl4ntedSecretOfTheEnvironment"
WORDS = ("model=tiny_qwen2_5_vl", "method=vanilla", "task.limit=1")
JUDGE = "harness_options.judge"


@pytest.fixture(autouse=True)
def planted(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Secrets in the environment, and nothing left of them in the process afterwards."""
    for name in ("OPENAI_API_KEY", "HF_TOKEN", "PLANTED", "PLANTED_PASSWORD"):
        monkeypatch.setenv(name, PLANTED)
    yield
    credentials._followed.clear()
    credentials._used.clear()


GIVEN = {
    "a key in place of its name": f"{JUDGE}.key=sk-{PLANTED}",
    "a short key": f"{JUDGE}.key=sk-SECRET",
    "a token of the hub": f"{JUDGE}.key=hf_{PLANTED}",
    "a key of hexadecimal digits": f"{JUDGE}.key=0f1e2d3c4b5a69788796a5b4c3d2e1f0",
    "a word in small letters": f"{JUDGE}.key=hunter",
    "a password in a URL": f"{JUDGE}.url=https://me:{PLANTED}@judge.example/v1",
    "a user in a URL": f"{JUDGE}.url=https://{PLANTED}@judge.example/v1",
    "a key in a URL": f"{JUDGE}.url='https://judge.example/v1?api_key={PLANTED}'",
    "a token in a URL of data": f"task.data='https://x/y?token={PLANTED}'",
    "a password in another URL": f"model.checkpoint=https://me:{PLANTED}@hub.example/x",
    "a token as a model": f"{JUDGE}.model=sk-{PLANTED}",
    "a token as a revision": f"model.revision=ghp_{PLANTED}",
    "a key that cannot be read": f"{JUDGE}.key=[sk-{PLANTED}",
    "a key of a key that there is not": f"{JUDGE}.keyy=sk-{PLANTED}",
    "a kind that there is not": f"{JUDGE}.kind=sk-{PLANTED}",
}


@pytest.mark.parametrize("what", GIVEN)
def test_a_secret_in_a_command_is_refused_and_not_said_again(
    what: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out, secret = tmp_path / "out", GIVEN[what].partition("=")[2]
    assert main([*WORDS, GIVEN[what], f"out={out}"]) == 2
    said = "".join(capfd.readouterr())
    assert PLANTED not in said and "SECRET" not in said and secret not in said
    assert not out.exists() or PLANTED not in _left(out)


def test_the_name_of_a_key_is_a_variable_or_a_file(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("abc\n")
    for name in ("OPENAI_API_KEY", "MY_KEY_2", str(file)):
        compose_cells([*WORDS, f"{JUDGE}.key={name}"], sweep=False)
    assert secret_of(str(file), {}) == "abc" and secret_of("A", {"A": "x"}) == "x"
    assert secret_of("B", {"A": "x"}) is None and secret_of("/no/file", {}) is None


def one(out: Path, *words: str) -> Cell:
    return cell_of(compose_cells([*WORDS, *words, f"out={out}"], sweep=False)[0])


FOLLOWING = ("model.revision", "model.clip", "model.processor.note")


@pytest.mark.parametrize("key", FOLLOWING)
def test_what_follows_the_environment_is_stored_as_it_was_written(key: str, tmp_path: Path) -> None:
    add = "+" if "processor" in key else ""
    cell = one(tmp_path / "out", f"{add}{key}=${{oc.env:PLANTED}}")
    other = one(tmp_path / "out", f"{add}{key}=${{oc.env:PLANTED}}")
    finish(cell)
    stored = yaml.safe_load((cell.folder / "config.yaml").read_text())
    group, *inner = key.split(".")
    value = stored[group]
    for name in inner:
        value = value[name]
    assert value == "${oc.env:PLANTED}" and PLANTED not in _left(tmp_path)
    assert cell.key == other.key
    (path,) = cells_below(tmp_path / "out")
    assert "follows the environment" in judged(tmp_path / "out").unknown[path]


def finish(cell: Cell) -> None:
    folder, records = CellFolder(cell), [record(id="a")]
    with folder.logged(), folder.appending(ENVIRONMENT):
        logging.getLogger("unibench.x").warning("asked %s", PLANTED)
        folder.append(records[0].as_json())
    folder.merge()
    folder.finish(row_of(cell, records, [ENVIRONMENT], None, "accuracy").as_json())


def test_a_value_of_the_environment_decides_the_key_where_a_setting_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    word = "+model.processor.note=${oc.env:OTHER}"
    monkeypatch.setenv("OTHER", "the first value")
    first = one(tmp_path, word)
    monkeypatch.setenv("OTHER", "the second value")
    from unibench.compose import _resolved

    _resolved.cache_clear()
    assert one(tmp_path, word).key != first.key


def test_a_job_for_another_process_follows_the_environment_there(tmp_path: Path) -> None:
    cell = one(tmp_path / "out", "model.clip=${oc.env:PLANTED}")
    write_job([cell], tmp_path / "job.json")
    assert PLANTED not in (tmp_path / "job.json").read_text()
    (read,) = read_job(tmp_path / "job.json")
    assert read.key == cell.key and read.config.model.clip == PLANTED


def test_an_error_keeps_no_secret(tmp_path: Path) -> None:
    class Failing(Scripted):
        def answer(self, *arguments: object) -> None:
            raise ValueError(f"401 for Bearer {PLANTED} at https://me:word@judge.example/")

    cell = one(tmp_path / "out")
    outcome = work([cell], executors={"embedded": Failing()})
    assert outcome.failures and PLANTED not in _left(tmp_path)
    status = json.loads((cell.folder / "status.json").read_text())
    assert "<$" in status["error"] and "me:word" not in status["traceback"]


def test_an_error_that_nobody_caught_prints_no_secret() -> None:
    code = (
        "from unibench.credentials import hide_in_tracebacks; import os; hide_in_tracebacks();"
        "raise ValueError(os.environ['HF_TOKEN'])"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert ran.returncode == 1 and "ValueError: <$" in ran.stderr and PLANTED not in ran.stderr


def test_nothing_that_a_run_with_planted_secrets_leaves_holds_one(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    follows = ("model.clip=${oc.env:PLANTED}", "model.revision=${oc.env:PLANTED}")
    assert main([*WORDS, *follows, f"out={out}"]) == 0
    for words in (
        ["store", "verify", str(out)],
        ["store", "index", str(out), "--json"],
        ["report", f"out={out}"],
        ["report", "--html", f"out={out}", f"to={tmp_path / 'page'}"],
        ["store", "export", str(out), str(tmp_path / "cells.tar.gz")],
        ["plan", *WORDS, *follows, f"out={out}", "--json"],
    ):
        assert main(words) == 0, words
    assert len(list(cells_below(out))) == 1
    assert PLANTED not in _left(tmp_path) + "".join(capfd.readouterr())


def _left(place: Path) -> str:
    """All that lies below a folder: names, contents, members of archives."""
    parts: list[str] = []
    for file in place.rglob("*"):
        parts.append(str(file))
        content = file.read_bytes() if file.is_file() else b""
        if file.name.endswith(".tar.gz"):
            with tarfile.open(fileobj=io.BytesIO(content)) as archive:
                members = filter(None, map(archive.extractfile, archive.getmembers()))
                content = b"".join(member.read() for member in members)
        parts.append(content.decode("utf-8", "replace"))
    return "\n".join(parts)


def test_a_configuration_with_a_secret_is_not_stored_even_where_nobody_checked_it(
    tmp_path: Path,
) -> None:
    cell = one(tmp_path / "out")
    cell.config.harness_options.judge.url = f"https://me:{PLANTED}@judge.example"
    with pytest.raises(UsageError, match="would be stored"):
        CellFolder(cell).open()
    cell.config.harness_options.judge.url = None
    assert not list(cells_below(tmp_path))


@pytest.mark.parametrize(
    "text",
    ["https://judge.example/v1", "llava-hf/llava-1.5-7b-hf", "sklearn", "task-sk-learn", "hf_hub",
     "pkg://unibench.models/tiny/llava", "main", "user@host:/data", "key=value"],
)  # fmt: skip
def test_what_is_no_secret_is_not_taken_for_one(text: str) -> None:
    assert secret_in(text) is None and hidden(text) == text


def test_a_text_from_the_environment_is_a_text() -> None:
    made = FromEnvironment("abc", "${oc.env:A}")
    assert made == "abc" and made.written == "${oc.env:A}" and json.dumps(made) == '"abc"'


@pytest.mark.parametrize(
    "word",
    [f"{JUDGE}.url=https://judge.example/v1", "harness_options.python=/bin/sh",
     "model.trust_remote_code=true"],
)  # fmt: skip
def test_a_stored_configuration_starts_no_interpreter_and_asks_no_server(
    word: str, tmp_path: Path
) -> None:
    (config,) = compose_cells([*WORDS, word, f"out={tmp_path}"], sweep=False)
    with pytest.raises(UsageError, match="nothing but a command may"):
        check_runnable(config)


class Judge(BaseHTTPRequestHandler):
    """Quotes the key that it was sent, or sends the asker on to another server."""

    keys: ClassVar[list[str | None]] = []
    onward = ""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        if self.onward and self.path.startswith("/onward"):
            self.send_response(302)
            self.send_header("location", self.onward)
            self.end_headers()
            return
        self.keys.append(self.headers["authorization"])
        said = f"right, and your key is {self.headers['authorization']}"
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps({"choices": [{"message": {"content": said}}]}).encode())

    do_GET = do_POST  # noqa: N815

    def log_message(self, format: str, *args: object) -> None:
        pass


def test_a_judge_neither_passes_the_key_on_nor_has_it_stored(tmp_path: Path) -> None:
    key = "an-odd-key-of-no-known-form"
    (tmp_path / "key").write_text(key)
    with ThreadingHTTPServer(("127.0.0.1", 0), Judge) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        place = f"http://127.0.0.1:{server.server_port}"
        Judge.onward = f"{place}/elsewhere"
        judge = JudgeConfig("endpoint", "j", place, str(tmp_path / "key"), timeout=5, retries=0)
        given = secret_of(judge.key, {})
        assert given == key
        reply = _completion(judge, key, {"messages": []})
        assert Judge.keys.pop() == f"Bearer {key}" and key not in json.dumps(reply)
        with pytest.raises(HTTPError, match="302"):
            _completion(replace(judge, url=f"{place}/onward"), key, {"messages": []})
        assert not Judge.keys
        server.shutdown()
    assert hidden(f"401: {key} is wrong") == f"401: <{tmp_path / 'key'}> is wrong"
