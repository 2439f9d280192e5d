"""Whatever a file of the user's holds, a command reads it or says in lines what is wrong with it."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from tests.security._stores import honest
from unibench import tables
from unibench.cli import main
from unibench.frame import load
from unibench.registry import ROOT

TEXTS = st.sampled_from(
    ["", "a", "nan", "${nope}", "../x", "/dev/null", "\ud800", "\0", "\x1b[2J", "é", "1e999", "~"]
) | st.text(max_size=5)  # fmt: skip
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)
FEW = {
    "derandomize": True,
    "deadline": None,
    "phases": (Phase.explicit, Phase.generate),  # shrinking runs every command a hundred times
}


def answered(words: Sequence[str]) -> None:
    """Run a command; whatever is wrong is the file's, not unibench's."""
    said = io.StringIO()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(said):
        code = main([*words])
    text = said.getvalue()
    assert code in (0, 1, 2) and "has a fault" not in text and "Traceback" not in text, text
    assert code != 2 or text.strip(), words


def edited(data: st.DataObject, content: bytes) -> bytes:
    """What disks, copies and people make of a file."""
    size = len(content)
    start, end = sorted(data.draw(st.tuples(st.integers(0, size), st.integers(0, size))))
    noise = data.draw(st.binary(max_size=12))
    ways = {
        "cut": content[:start],
        "zeros": content[:start] + bytes(size - start),
        "gap": content[:start] + content[end:],
        "noise": content[:start] + noise + content[start:],
        "over": content[:start] + noise + content[start + len(noise) :],
        "twice": content + content,
        "utf-16": content.decode(errors="replace").encode("utf-16"),
        "crlf": content.replace(b"\n", b"\r\n"),
        "deep": b"[" * 3000,
        "empty": b"",
    }
    return ways[data.draw(st.sampled_from(sorted(ways)))]


def changed(data: st.DataObject, value: Any) -> Any:
    """A parsed value with another value somewhere in it."""
    if isinstance(value, dict) and value and data.draw(st.booleans()):
        key = data.draw(st.sampled_from(sorted(value)))
        if data.draw(st.integers(0, 5)) == 0:
            return {name: entry for name, entry in value.items() if name != key}
        return {**value, key: changed(data, value[key])}
    if isinstance(value, list) and value and data.draw(st.booleans()):
        place = data.draw(st.integers(0, len(value) - 1))
        return [*value[:place], changed(data, value[place]), *value[place + 1 :]]
    return data.draw(VALUES)


def damage(data: st.DataObject, file: Path) -> None:
    """Change a file by its bytes, or by what it says."""
    content = file.read_bytes()
    parsed: Any = None
    # what was made too deep before is changed by its bytes
    with contextlib.suppress(ValueError, yaml.YAMLError, RecursionError):
        if file.suffix == ".json":
            parsed = json.loads(content)
        elif file.suffix in (".yaml", ".yml"):
            parsed = yaml.safe_load(content)
    if parsed is not None and data.draw(st.integers(0, 2)):
        text = json.dumps(changed(data, parsed))
        if data.draw(st.booleans()):
            text = text.replace('"', '\\"') if len(text) < 3 else text
        file.write_bytes(text.encode(errors="surrogatepass"))
    else:
        file.write_bytes(edited(data, content))


# -- stored files


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    store = honest(tmp_path_factory.mktemp("whole"))
    answered(["report", f"out={store}"])  # which writes the index
    assert (store / "index.parquet").is_file()
    return store


def look(data: st.DataObject, whole: Path, place: Path) -> None:
    store = Path(shutil.copytree(whole, place / "out"))
    try:
        files = sorted(path for path in store.rglob("*") if path.is_file())
        names = st.sampled_from(sorted({file.name for file in files}))
        for _ in range(data.draw(st.integers(1, 2))):
            name = data.draw(names)
            damage(data, data.draw(st.sampled_from([file for file in files if file.name == name])))
        cell = ["model=tiny_qwen2_5_vl", "method=divprune", "ratio=0.75", "task.limit=4"]
        for words in (
            ["plan", *cell],
            ["report"],
            ["report", "format=csv", "view=abilities"],
            ["compare", "divprune", "fastv"],
            ["recommend", "--max-drop", "50"],
        ):
            answered([*words, f"out={store}"])
        for action in ("index", "verify", "prune", "repair"):
            answered(["store", action, str(store), *(["--failed"] if action == "prune" else [])])
        load(store)
    finally:
        shutil.rmtree(store)


@settings(max_examples=4, **FEW)  # type: ignore[arg-type]
@given(data=st.data())
def test_a_look_at_any_store_ends_in_lines(
    data: st.DataObject, whole: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    look(data, whole, tmp_path_factory.mktemp("damaged"))


@pytest.mark.slow
@settings(max_examples=300, **FEW)  # type: ignore[arg-type]
@given(data=st.data())
def test_a_look_at_any_of_many_stores_ends_in_lines(
    data: st.DataObject, whole: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    look(data, whole, tmp_path_factory.mktemp("damaged"))


# -- data, cards, experiments, checkpoints, tables of results


TABLE = """index\tquestion\tA\tB\tanswer\tcategory\timage
1\tWhich?\tred\tblue\tA\tx\tAAAA
2\tWhich?\t"red, or"\tblue\tB\ty\tAAAA
"""
EXPERIMENT = """title: mine
common: {model: tiny_qwen2_5_vl, task: synthvqa, harness: auto}
grids:
  - {method: vanilla}
  - {method: [divprune, fastv], ratio: [0.5, 0.75], seed: 0}
"""
CARD = (ROOT.parent / "configs" / "task" / "mmstar.yaml").read_text(encoding="utf-8")
RESULTS = (ROOT.parent / "results" / "published" / "idpruner_table1.csv").read_text("utf-8")
CONFIG = json.dumps(
    {"model_type": "llava", "text_config": {"num_hidden_layers": 2}, "vision_config": {}}
)
FILES = {
    "MMStar.tsv": (TABLE, ["plan", "task=mmstar", "harness=vlmevalkit", "task.data={folder}"]),
    "mine.yaml": (EXPERIMENT, ["plan", "experiment={file}"]),
    "card.yaml": (CARD, ["plan", "task={file}", "harness=vlmevalkit"]),
    "results.csv": ("\n".join(RESULTS.splitlines()[:30]), ["audit", "{file}"]),
    "config.json": (CONFIG, ["plan", "model=llava_1_5_7b", "model.path={folder}"]),
    "questions.jsonl": (
        '{"image": "a.png", "question": "What?", "answer": "yes"}\n',
        ["plan", "task=folder", "task.data={folder}"],
    ),
}


def read(data: st.DataObject, name: str, folder: Path) -> None:
    content, words = FILES[name]
    file = folder / name
    file.write_text(content, encoding="utf-8")
    for _ in range(data.draw(st.integers(1, 2))):
        damage(data, file)
    answered([word.format(file=file, folder=folder) for word in words])


@pytest.mark.parametrize("name", FILES)
@settings(max_examples=3, **FEW)  # type: ignore[arg-type]
@given(data=st.data())
def test_any_file_that_a_command_names_ends_in_lines(
    name: str, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    read(data, name, tmp_path_factory.mktemp("named"))


@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
@settings(max_examples=500, **FEW)  # type: ignore[arg-type]
@given(data=st.data())
def test_any_of_many_files_that_a_command_names_ends_in_lines(
    name: str, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    read(data, name, tmp_path_factory.mktemp("named"))


@pytest.mark.slow
@settings(max_examples=500, **FEW)  # type: ignore[arg-type]
@given(data=st.data())
def test_any_table_is_read_or_named(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    table = tmp_path_factory.mktemp("table") / "t.tsv"
    table.write_bytes(edited(data, TABLE.encode()))
    for mistake in tables.mistakes(table, ["split"]):
        assert str(table) in mistake and "\n" not in mistake


@pytest.mark.parametrize(("name", "content", "words"), [(k, *v) for k, v in FILES.items()])
def test_the_files_as_they_are_have_no_mistake(
    name: str, content: str, words: Sequence[str], tmp_path: Path
) -> None:
    """Otherwise the tests above would refuse everything for another reason."""
    (tmp_path / name).write_text(content, encoding="utf-8")
    (tmp_path / "model.safetensors").touch()
    said = io.StringIO()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(said):
        code = main([word.format(file=tmp_path / name, folder=tmp_path) for word in words])
    assert code == 0, said.getvalue()
