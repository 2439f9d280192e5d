"""Questions of one's own: what is asked, what is refused, and what counts as equal."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from unibench import UsageError
from unibench.cli import main
from unibench.compose import compose_cells
from unibench.config import ModelConfig
from unibench.identity import cell_of
from unibench.models import control_word_in, control_words, load, processor_of
from unibench.runner import embedded, harnessed
from unibench.tasks._task import Sample
from unibench.tasks.folder import Folder

GOOD: dict[str, Any] = {"image": "a.png", "question": "What is written?", "answer": "R1"}


def folder(place: Path, *lines: dict[str, Any] | str | bytes) -> Path:
    """A data folder with one picture and these lines."""
    Image.new("RGB", (28, 28)).save(place / "a.png")
    written = [line if isinstance(line, (str, bytes)) else json.dumps(line) for line in lines]
    content = b"\n".join(line if isinstance(line, bytes) else line.encode() for line in written)
    (place / "questions.jsonl").write_bytes(content + b"\n")
    return place


def spec_of(model: str) -> ModelConfig:
    (config,) = compose_cells([f"model={model}", "method=vanilla"], sweep=False)
    return config.model


def refusal(place: Path, *lines: dict[str, Any] | str | bytes) -> str:
    with pytest.raises(UsageError) as caught:
        Folder(data=str(folder(place, *lines)))
    return str(caught.value)


@pytest.mark.parametrize(
    "answer", [None, float("nan"), float("inf"), {}, [], "", " ", True, ["a", None], [["a"]]]
)
def test_what_is_no_label_is_no_answer(tmp_path: Path, answer: Any) -> None:
    assert "line 2: answer is" in refusal(tmp_path, GOOD, {**GOOD, "answer": answer})


@pytest.mark.parametrize("answer", ["R1", 7, 2.5, ["R1", 7]])
def test_texts_and_numbers_are_answers(tmp_path: Path, answer: Any) -> None:
    (sample,) = Folder(data=str(folder(tmp_path, {**GOOD, "answer": answer}))).samples()
    wanted = answer if isinstance(answer, list) else [answer]
    assert sample.answers == tuple(map(str, wanted))


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("Which?\nA. red\nB. blue", "E"),
        ("Which?\n(A) red\n(B) blue", ["c", "d"]),
        ("Which? A) red B) blue C) green", "D"),
        ("Which?\nA: red\nB: blue", "c "),
    ],
)
def test_a_label_that_is_none_of_the_options_of_its_question_is_refused(
    tmp_path: Path, question: str, answer: Any
) -> None:
    said = refusal(tmp_path, GOOD, {**GOOD, "question": question, "answer": answer})
    assert "line 2: answer is" in said and "none of its options A, B" in said


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("Which?\nA. red\nB. blue", "b"),  # case and outer space make no other answer
        ("Which?\nA. red\nB. blue", "B "),
        ("Which?\nA. red\nB. blue", "blue"),
        ("Which?\nA. red\nB. blue", ["E", "A"]),
        ("Which letter is drawn, A, B or C?", "E"),
        ("Is vitamin A. the one of I. Newton?", "E"),
        ("Who?\nA. J. Smith\nB. K. Moe", "E"),  # initials are no options
    ],
)
def test_labels_of_questions_with_and_without_options(
    tmp_path: Path, question: str, answer: Any
) -> None:
    folder(tmp_path, {**GOOD, "question": question, "answer": answer})
    (sample,) = Folder(data=str(tmp_path)).samples()
    (first, *_) = answer if isinstance(answer, list) else [answer]
    assert Folder(data=str(tmp_path)).score(sample, first.strip().lower()) == 1.0


@pytest.mark.parametrize(
    "image", [None, 5, ["a.png", None], ["a.png", 7], [["a.png"]], "a\0.png", ""]
)
def test_a_picture_that_is_no_name_is_refused_with_its_line(tmp_path: Path, image: Any) -> None:
    assert "line 2: image is" in refusal(tmp_path, GOOD, {**GOOD, "image": image})


@pytest.mark.parametrize("question", [None, 3, "", ["What?"]])
def test_a_question_that_is_no_text_is_refused_with_its_line(tmp_path: Path, question: Any) -> None:
    assert "line 2: question is" in refusal(tmp_path, GOOD, {**GOOD, "question": question})


@pytest.mark.parametrize(("first", "second"), [("7", "7"), ("2", None), (2, None), (7, "7")])
def test_two_questions_of_one_id_are_refused_with_both_lines(
    tmp_path: Path, first: Any, second: Any
) -> None:
    lines = [{**GOOD, "id": first}, {**GOOD, **({} if second is None else {"id": second})}]
    assert "lines 1 and 2 have one id" in refusal(tmp_path, *lines)


def test_an_empty_id_or_ability_of_a_table_is_the_default(tmp_path: Path) -> None:
    (sample,) = Folder(data=str(folder(tmp_path, {**GOOD, "id": None, "ability": None}))).samples()
    assert (sample.id, sample.ability) == ("1", "all")


@pytest.mark.parametrize("sign", ["\u2028", "\u2029", "\x85", "\x0c"])
def test_only_a_line_feed_ends_a_line(tmp_path: Path, sign: str) -> None:
    line = json.dumps({**GOOD, "question": f"What{sign} is written?"}, ensure_ascii=False)
    (sample,) = Folder(data=str(folder(tmp_path, line))).samples()
    assert sample.question == f"What{sign} is written?"


@pytest.mark.parametrize("coding", ["latin-1", "utf-16"])
def test_a_file_that_is_not_utf_8_is_refused_with_its_line(tmp_path: Path, coding: str) -> None:
    line = json.dumps({**GOOD, "question": "Was ist gro\u00df?"}, ensure_ascii=False)
    assert "questions.jsonl line 1 is not UTF-8" in refusal(tmp_path, line.encode(coding))


def test_a_byte_order_mark_is_no_part_of_the_first_line(tmp_path: Path) -> None:
    place = folder(tmp_path, b"\xef\xbb\xbf" + json.dumps(GOOD).encode())
    assert [sample.question for sample in Folder(data=str(place)).samples()] == [GOOD["question"]]


def test_half_of_a_surrogate_pair_is_refused(tmp_path: Path) -> None:
    assert "line 1 holds half of a surrogate" in refusal(tmp_path, {**GOOD, "question": "\ud83d?"})


@pytest.mark.parametrize(
    "line", ["{", "[]", pytest.param("[" * 100_000, id="deep"), "7", '{"image": "a.png"}']
)
def test_a_line_of_another_form_is_refused(tmp_path: Path, line: str) -> None:
    assert "questions.jsonl line 2" in refusal(tmp_path, GOOD, line)


@pytest.mark.parametrize(
    ("answer", "truth", "equal"),
    [
        ("caf\u00e9", "cafe\u0301", True),
        ("STRASSE", "stra\u00dfe", True),
        (" R1 ", "r1", True),
        ("R1", "R2", False),
        ("R1.", "R1", False),
    ],
)
def test_equal_words_are_equal_in_any_case_and_unicode_form(
    answer: str, truth: str, equal: bool
) -> None:
    scorer = Folder.__new__(Folder)
    assert scorer.score(Sample("1", (), "", (truth,), "all", "g"), answer) == float(equal)


@pytest.mark.parametrize(
    ("model", "word"),
    [
        ("tiny_qwen2_5_vl", "<|image_pad|>"),
        ("tiny_qwen2_5_vl", "<|im_end|>"),
        ("tiny_llava", "<image>"),
        ("tiny_internvl", "<IMG_CONTEXT>"),
    ],
)
def test_a_question_with_a_word_of_the_models_own_is_refused_before_it_is_loaded(
    model: str,
    word: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(embedded, "load", lambda *_: pytest.fail("the model was loaded"))
    data = folder(tmp_path, GOOD, {**GOOD, "question": f"What does {word} mean?"})
    words = [f"model={model}", "method=vanilla", "task=folder", f"task.data={data}"]
    assert main([*words, f"out={tmp_path}/out"]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "questions.jsonl line 2" in said and repr(word) in said


def test_words_of_other_models_and_plain_brackets_are_text() -> None:
    processor = processor_of(spec_of("tiny_qwen2_5_vl"))
    words = control_words(processor)
    for text in ("What does <image> mean in <b>bold</b> HTML?", "[INST] or <s>?", "a < b > c"):
        assert control_word_in(text, words) is None
    assert control_word_in("<|vision_start|><|image_pad|>", words) == "<|vision_start|>"


def test_a_prompt_with_a_placeholder_in_its_text_is_refused() -> None:
    loaded = load(spec_of("tiny_llava"))
    with pytest.raises(UsageError, match="'<image>'"):
        loaded.read([[Image.new("RGB", (56, 56)), "What is <image>?"]])


def test_a_table_with_a_word_of_the_models_own_is_refused_before_a_harness_starts(
    tmp_path: Path,
) -> None:
    words = ["model=tiny_qwen2_5_vl", "task=mmstar", "harness=vlmevalkit", f"task.data={tmp_path}"]
    rows = ["1\tWhich <b>one</b>?\tred\tblue\tA", "2\tIs it <|image_pad|>?\tred\tblue\tB"]
    for count, said in ((1, ""), (2, "MMStar.tsv row 2: .*'<|image_pad|>'")):
        text = "\n".join(["index\tquestion\tA\tB\tanswer", *rows[:count]])
        (tmp_path / "MMStar.tsv").write_text(text)
        (config,) = compose_cells(words, sweep=False)
        with contextlib.ExitStack() as stack:
            if said:
                stack.enter_context(pytest.raises(UsageError, match=said.replace("|", r"\|")))
            harnessed._refuse_words_of_tables(cell_of(config))
