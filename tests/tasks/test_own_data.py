"""Questions of one's own in every format, their scorers, their names."""

from __future__ import annotations

import base64
import csv
import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from unibench import UsageError
from unibench.asked import asked
from unibench.cli import main
from unibench.compose import compose_cells
from unibench.frame import load as frame_of
from unibench.identity import cell_of
from unibench.runner import embedded
from unibench.tasks import Sample
from unibench.tasks.folder import Folder

ENTRIES = [
    {"id": "first", "image": "a.png", "question": "What is written?", "answer": "R1"},
    {"id": "second", "image": "b.png", "question": "Which colour, red or\nblue?", "answer": "red"},
]
Samples = list[Sample]


def picture(colour: str) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (56, 56), colour).save(stream, "PNG")
    return stream.getvalue()


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "a.png").write_bytes(picture("red"))
    (tmp_path / "b.png").write_bytes(picture("blue"))
    return tmp_path


def written(place: Path, form: str, entries: list[dict[str, Any]] = ENTRIES) -> Path:
    """The entries in a format; what ``task.data`` names."""
    file = place / f"mine.{form}"
    if form == "jsonl":
        file.write_text("\n".join(map(json.dumps, entries)))
    elif form in ("csv", "tsv"):
        with file.open("w", newline="") as stream:
            delimiter = "," if form == "csv" else "\t"
            writer = csv.DictWriter(stream, list(entries[0]), delimiter=delimiter)
            writer.writeheader()
            writer.writerows(entries)
    elif form == "parquet":
        pq.write_table(pa.Table.from_pylist(entries), file)
    elif form == "dataset":  # as datasets.Dataset.save_to_disk writes it
        file.mkdir()
        held = [dict(entry) for entry in entries]
        for entry in held:
            content = (place / entry["image"]).read_bytes()
            entry["image"] = {"bytes": content, "path": None}
        table = pa.Table.from_pylist(held)
        with pa.ipc.new_stream(str(file / "data-00000-of-00001.arrow"), table.schema) as stream:
            stream.write_table(table)
        state = {"_data_files": [{"filename": "data-00000-of-00001.arrow"}], "_split": None}
        (file / "state.json").write_text(json.dumps(state))
        (file / "dataset_info.json").write_text("{}")
    return file


def samples(data: Path, **options: Any) -> Samples:
    return list(Folder(data=str(data), **options).samples())


def refusal(data: Path, **options: Any) -> str:
    with pytest.raises(UsageError) as caught:
        task = Folder(data=str(data), **options)
        task.left_out()
    assert "\n" not in str(caught.value)
    return str(caught.value)


# -- formats


@pytest.mark.parametrize("form", ["jsonl", "csv", "tsv", "parquet", "dataset"])
def test_every_format_asks_the_same(place: Path, form: str) -> None:
    found = samples(written(place, form))
    assert [(one.id, one.question, one.answers) for one in found] == [
        (entry["id"], entry["question"], (entry["answer"],)) for entry in ENTRIES
    ]
    colours = [one.images[0].getpixel((3, 3)) for one in found]
    assert colours == [(255, 0, 0), (0, 0, 255)]
    assert len({one.group for one in found}) == 2


def test_a_folder_is_read_whatever_the_format_of_its_questions(place: Path) -> None:
    written(place, "tsv").rename(place / "questions.tsv")
    assert len(samples(place)) == 2
    (place / "questions.csv").write_text("id,image,question,answer\n")
    assert "holds questions.csv and questions.tsv" in refusal(place)


def test_a_table_of_vlmevalkit_holds_its_pictures(place: Path) -> None:
    content = base64.b64encode(picture("red")).decode()
    same = {"question": "Which?", "A": "red", "B": "blue", "C": "", "category": "colour"}
    rows = [
        {"index": "10", "image": content, **same, "answer": "A"},
        {"index": "11", "image": "10", **same, "answer": "B"},  # the picture of row 10
        {"index": "12", "image": f"['{content}', '{content}']", **same, "answer": "A"},
    ]
    found = samples(written(place, "tsv", rows))
    assert [len(one.images) for one in found] == [1, 1, 2]
    assert found[0].group == found[1].group
    assert found[0].question.splitlines()[:3] == ["Which?", "A. red", "B. blue"]
    assert {one.ability for one in found} == {"colour"}
    (place / "mine.tsv").write_text(
        "index\timage_path\tquestion\tanswer\n1\t['a.png', 'b.png']\tSame?\tno\n"
    )
    (named,) = samples(place / "mine.tsv")
    assert len(named.images) == 2


def test_a_dataset_with_splits_is_asked_for_one(place: Path) -> None:
    folder = place / "hub"
    (folder / "data").mkdir(parents=True)
    for split in ("train", "test"):
        written(place, "parquet").rename(folder / "data" / f"{split}-00000-of-00001.parquet")
    assert "has the splits test, train; choose one with task.split=test" in refusal(folder)
    assert "Did you mean test?" in refusal(folder, split="tst")
    for name in "ab":
        (folder / f"{name}.png").write_bytes((place / f"{name}.png").read_bytes())
    assert len(samples(folder, split="test")) == 2


@pytest.mark.slow
def test_what_the_library_datasets_saves_is_read(place: Path) -> None:
    import datasets

    held = [{**entry, "image": str(place / entry["image"])} for entry in ENTRIES]
    made = datasets.Dataset.from_list(held).cast_column("image", datasets.Image())
    made.save_to_disk(str(place / "saved"))
    assert [one.id for one in samples(place / "saved")] == ["first", "second"]
    datasets.DatasetDict({"test": made, "dev": made}).save_to_disk(str(place / "several"))
    assert [one.id for one in samples(place / "several", split="test")] == ["first", "second"]


def test_columns_have_the_names_that_the_user_says(place: Path) -> None:
    entries = [
        {"key": entry["id"], "file": entry["image"], "prompt": entry["question"], "label": "x"}
        for entry in ENTRIES
    ]
    columns = {"id": "key", "image": "file", "question": "prompt", "answer": "label"}
    for form in ("jsonl", "csv", "parquet"):
        data = written(place, form, entries)
        assert [one.id for one in samples(data, columns=columns)] == ["first", "second"]
        assert "Did you mean label?" in refusal(data, columns={**columns, "answer": "labl"})
        assert "answer, image, question missing" in refusal(data)
        assert "Did you mean question?" in refusal(data, columns={"questio": "prompt"})


# -- what is refused


@pytest.mark.parametrize("form", ["csv", "tsv", "parquet", "dataset"])
def test_two_rows_of_one_id_are_refused_with_both(place: Path, form: str) -> None:
    twice = [ENTRIES[0], {**ENTRIES[1], "id": "first"}]
    assert "rows 1 and 2 have one id, 'first'" in refusal(written(place, form, twice))


def test_a_missing_and_a_broken_picture_are_named_by_line_before_a_model_is_loaded(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(embedded, "load", lambda *_: pytest.fail("the model was loaded"))
    (place / "b.png").write_bytes(picture("blue")[:60])
    more = [{**ENTRIES[0], "id": "third", "image": "c.png"}]
    data = written(place, "jsonl", [*ENTRIES, *more])
    words = ["model=tiny_qwen2_5_vl", "method=vanilla", "task=folder", f"task.data={data}"]
    assert main([*words, f"out={place}/out"]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "line 2: cannot read the picture b.png" in said
    assert "line 3: cannot read the picture c.png: No such file" in said
    assert "task.on_bad=skip" in said


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("mine.csv", "", "holds no question"),
        ("mine.tsv", "index\timage\tquestion\tanswer\n", "holds no question"),
        ("mine.jsonl", "\n\n", "holds no question"),
        ("mine.csv", 'image,question,answer\na.png,"What?,R1\n', "mine.csv row 1"),
        ("mine.csv", "image,question,answer\na.png,What?\n", "row 1 has 2 values"),
        ("mine.csv", "image,question,answer\na.png,What, now?,R1\n", "row 1 has 4 values"),
        ("mine.csv", "image,image,answer\n", "two columns 'image'"),
        ("mine.parquet", "no parquet", "mine.parquet cannot be read"),
        ("mine.xlsx", "x", "no format of questions"),
    ],
)
def test_a_file_that_holds_no_questions_is_refused(
    place: Path, name: str, content: str, told: str
) -> None:
    (place / name).write_text(content)
    assert told in refusal(place / name)


# -- options and scores


def choosing(place: Path, **more: Any) -> Folder:
    entry = {"image": "a.png", "question": "Which?", "options": ["red", "blue"], **more}
    return Folder(data=str(written(place, "jsonl", [entry])))


@pytest.mark.parametrize("answer", ["B", "b", "blue", 1, ["B"]])
def test_an_option_is_named_by_letter_text_or_number(place: Path, answer: Any) -> None:
    task = choosing(place, answer=answer)
    (sample,) = task.samples()
    right = ["B", "b.", "(B)", "B. blue", "The answer is B.", "blue", "Answer: B"]
    wrong = ["A", "A blue one", "red", "A or B", "", "The answer is a bird"]
    assert [task.score(sample, text) for text in right] == [1.0] * len(right)
    assert [task.score(sample, text) for text in wrong] == [0.0] * len(wrong)


@pytest.mark.parametrize("answer", ["C", 2, -1, "green"])
def test_an_answer_that_is_no_option_is_refused(place: Path, answer: Any) -> None:
    with pytest.raises(UsageError, match="line 1"):
        choosing(place, answer=answer)


@pytest.mark.parametrize(
    ("score", "answer", "reply", "wanted"),
    [
        ("exact", "R1", "r1 ", 1.0),
        ("exact", "R1", "It is R1", 0.0),
        ("contains", "R1", "It is R1.", 1.0),
        ("contains", "R1", "It is R12.", 0.0),
        ("anls", ["mitten", "glove"], "mittens", 1 - 1 / 7),
        ("anls", "mitten", "sock", 0.0),
        ("relaxed", 10, "10.5", 1.0),
        ("relaxed", 10, "10.6", 0.0),
        ("relaxed", "0", "0.0", 1.0),
        ("iou", [0, 0, 10, 10], "[0, 0, 10, 5]", 0.5),
        ("iou", [0, 0, 10, 10], "nothing", 0.0),
    ],
)
def test_answers_are_scored_as_the_task_is_told(
    place: Path, score: str, answer: Any, reply: str, wanted: float
) -> None:
    entry = {"image": "a.png", "question": "What?", "answer": answer}
    task = Folder(data=str(written(place, "jsonl", [entry])), score=score)
    (sample,) = task.samples()
    assert task.score(sample, reply) == pytest.approx(wanted)


def test_a_scorer_of_ones_own_is_held_to_what_a_score_is(place: Path) -> None:
    file = place / "mine.py"
    file.write_text(
        "def half(answer, accepted):\n    return 0.5\n"
        "def large(answer, accepted):\n    return 7\n"
        "def broken(answer, accepted):\n    return accepted[3]\n"
    )
    data = written(place, "jsonl")
    half = Folder(data=str(data), score=f"{file}:half")
    sample = next(half.samples())
    assert half.score(sample, "x") == 0.5
    for name, told in (("large", "must lie from 0 to 1"), ("broken", "mine.py line 6")):
        with pytest.raises(UsageError, match=told):
            Folder(data=str(data), score=f"{file}:{name}").score(sample, "x")
    assert "Did you mean half?" in refusal(data, score=f"{file}:hal")
    assert "Did you mean exact?" in refusal(data, score="exakt")


# -- whole runs


def test_own_data_are_asked_under_their_name_and_scorer(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, out = place / "mine.py", place / "out"
    file.write_text("def close(answer, accepted):\n    return 0.25\n")
    (place / "b.png").write_bytes(b"broken")
    data = written(place, "csv")
    words = ["model=tiny_qwen2_5_vl", "method=vanilla", "task=folder", f"task.data={data}"]
    words += [f"task.score={file}:close", "task.name=signs", "task.on_bad=skip", f"out={out}"]
    assert main(words) == 0
    (row,) = frame_of(out).query("ability == 'all'").to_dict("records")
    assert (row["task"], row["n"], row["score_100"]) == ("signs", 1, 25.0)
    assert "1 question left out" in capsys.readouterr().out
    assert main(["store", "verify", str(out)]) == 0
    assert "score not re-checked" in capsys.readouterr().out
    assert main(["store", "verify", str(out), "--score", f"{file}:close"]) == 0
    assert "not re-checked" not in capsys.readouterr().out
    # of a store that names a scorer nobody runs it unasked: not verify, prune or the page
    trace = place / "trace"
    file.write_text(f"open({str(trace)!r}, 'w').close()\n{file.read_text()}")
    assert main(["store", "verify", str(out)]) == 0
    assert main(["store", "prune", str(out), "--outdated"]) == 0
    assert "its scorer is a file of its own" in capsys.readouterr().out
    assert asked(Path(row["folder"]), {"first"}, 1)["first"].answers == ("R1",)
    assert not trace.exists()


def test_the_frames_of_a_clip_are_asked_as_one_video(place: Path) -> None:
    out = place / "out"
    data = written(place, "jsonl", [{**ENTRIES[0], "image": ["a.png", "b.png"] * 2}])
    words = ["model=tiny_qwen2_5_vl", "method=vanilla", "task=folder", f"task.data={data}"]
    tokens = {}
    for name, more in (("pictures", []), ("clip", ["task.modality=video"])):
        assert main([*words, *more, f"out={out / name}"]) == 0
        (row,) = frame_of(out / name).query("ability == 'all'").to_dict("records")
        tokens[name] = row["tokens_in"]
    assert tokens["clip"] == tokens["pictures"] / 2  # Qwen reads two frames together


def key(*words: str) -> str:
    (config,) = compose_cells(["method=vanilla", *words], sweep=False)
    return cell_of(config).key


def test_a_name_a_scorers_code_and_the_pictures_are_in_the_key(place: Path) -> None:
    file = place / "mine.py"
    file.write_text("def close(answer, accepted):\n    return 0.25\n")
    data = written(place, "csv")
    words = ["task=folder", f"task.data={data}"]
    scored = [*words, f"task.score={file}:close"]
    keys = {key(*words), key(*words, "task.name=signs"), key(*words, "task.score=anls")}
    keys |= {key(*scored)}
    file.write_text("def close(answer, accepted):\n    return 0.75\n")
    keys |= {key(*scored)}
    (place / "a.png").write_bytes(picture("green"))
    keys |= {key(*words)}
    assert len(keys) == 6


def test_a_checkpoint_of_ones_own_has_the_name_that_it_is_given() -> None:
    path = "model.path=pkg://unibench.models/tiny/qwen2_5_vl"
    (config,) = compose_cells(["model=tiny_qwen2_5_vl", path, "model.name=ours"], sweep=False)
    (card,) = compose_cells(["model=tiny_qwen2_5_vl", path], sweep=False)
    ours, plain = cell_of(config), cell_of(card)
    assert ours.identity["model"].pop("name") == "ours"
    assert plain.identity["model"].pop("name") == "tiny_qwen2_5_vl"
    assert ours.identity == plain.identity and ours.folder.parts[1] == "ours"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["model.name=ours"], "only your own can be named, with model.path= or model.checkpoint="),
        (["task=pope", "task.name=ours"], "only your own can be named, with task.data="),
        (["model.path=.", "model.name=tiny_llava"], "is the name of another model"),
        (["model.path=.", "model.name=a/b"], "a word of letters"),
    ],
)
def test_a_name_that_is_not_the_users_to_give_is_refused(words: list[str], told: str) -> None:
    with pytest.raises(UsageError, match=told.replace(".", r"\.")):
        compose_cells(words, sweep=False)
