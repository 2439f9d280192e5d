"""Scores of VLMEvalKit's data sets from a table and the raw answers."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from statistics import fmean
from string import ascii_uppercase
from typing import Any

from tests.harness.scoring._captions import cider, plain
from tests.harness.scoring._text import (
    agreement,
    anls,
    number,
    only_named,
    plain_words,
    relaxed,
    without_marks,
)

Row = dict[str, Any]
Scores = dict[str, float]
STOP = r"(?<!\d)\.(?!\d)"  # a full stop next to a digit stays
PERCEPTION = {
    "OCR",
    "artwork",
    "celebrity",
    "color",
    "count",
    "existence",
    "landmark",
    "position",
    "posters",
    "scene",
}
REFUSALS = ("Sorry, I can't help with images of people yet.", "I can't process this file.")
REFUSALS += ("I'm sorry, but without the image provided", "Cannot determine the answer")


def yes_or_no(answer: str) -> str:
    """The one of the two words that is in the answer, without the other."""
    words = without_marks(answer.lower(), stop=STOP).split()
    return {(True, False): "Yes", (False, True): "No"}.get(
        ("yes" in words, "no" in words), "Unknown"
    )


def letter(answer: str, options: dict[str, str]) -> str:
    """The letter that an answer names, ``Z`` for a refusal, or nothing."""
    if any(refusal in answer for refusal in REFUSALS):
        return "Z"
    words = re.sub(r"[.()\[\],:;!*#{}]", " ", answer).split()
    named = [option for option in options if option in words]
    if len(named) == 1 and words.index(named[0]) > len(words) - 5:  # an early one may be an article
        return named[0]
    if not named and "Z" in words:
        return "Z"
    short = len(answer) <= 2 * sum(map(len, options.values()))
    return only_named(answer, options) if short else ""


def _options(row: Row) -> dict[str, str]:
    return {
        name: str(row[name]) for name in ascii_uppercase if name in row and row[name] == row[name]
    }  # NaN is unlike itself


def _chosen(row: Row, answer: str) -> bool:
    return letter(answer, _options(row)) == row["answer"]


def mme(rows: list[Row], answers: list[str]) -> Scores:
    """Sum over categories of accuracy and of the share of pictures with both questions right."""
    pictures: dict[str, dict[str, list[bool]]] = defaultdict(lambda: defaultdict(list))
    for row, answer in zip(rows, answers, strict=True):
        pictures[row["category"]][row["image_path"]].append(yes_or_no(answer) == row["answer"])
    scores = {
        category: 100 * fmean(right for pair in pairs.values() for right in pair)
        + 100 * fmean(all(pair[:2]) for pair in pairs.values())
        for category, pairs in pictures.items()
    }
    perception = sum(score for category, score in scores.items() if category in PERCEPTION)
    return {"perception": perception, "reasoning": sum(scores.values()) - perception}


def pope(rows: list[Row], answers: list[str]) -> Scores:
    """Accuracy, precision, recall and F1 of yes; a question counts for each split that lists it."""
    pairs = [
        (row["answer"], yes_or_no(answer))
        for row, answer in zip(rows, answers, strict=True)
        for _ in str(row["category"]).split(",")
    ]
    hits = sum(pair == ("Yes", "Yes") for pair in pairs)
    precision = hits / max(1, sum(said == "Yes" for _, said in pairs))
    recall = hits / max(1, sum(truth == "Yes" for truth, _ in pairs))
    f1 = 2 * precision * recall / (precision + recall) if hits else 0.0
    right = fmean(truth == said for truth, said in pairs)
    named = {"Overall": f1, "acc": right, "precision": precision, "recall": recall}
    return {f"Overall.{name}": 100 * value for name, value in named.items()}


def hallusionbench(rows: list[Row], answers: list[str]) -> Scores:
    """Accuracy over questions, over figures with all questions right, over questions with all
    figures right.
    """
    right = [yes_or_no(answer) == row["answer"] for row, answer in zip(rows, answers, strict=True)]
    parts = [
        [row["l2-category"], *row["index"].split("_")[3:6]] for row in rows
    ]  # subcategory, set, figure, question
    return {
        "Overall.aAcc": 100 * fmean(right),
        "Overall.fAcc": _whole_groups(
            right, [(kind, group, figure) for kind, group, figure, _ in parts]
        ),
        "Overall.qAcc": _whole_groups(
            right, [(kind, group, question) for kind, group, _, question in parts]
        ),
    }


def _whole_groups(right: Sequence[bool], keys: Iterable[object]) -> float:
    """Per cent of the groups in which everything is right."""
    groups: dict[object, list[bool]] = defaultdict(list)
    for key, value in zip(keys, right, strict=True):
        groups[key].append(value)
    return 100 * fmean(map(all, groups.values()))


def circular(rows: list[Row], answers: list[str]) -> Scores:
    """A question is right if it is for every rotation of its options."""
    right = [_chosen(row, answer) for row, answer in zip(rows, answers, strict=True)]
    return {"Overall": _whole_groups(right, [int(row["index"]) % 1_000_000 for row in rows]) / 100}


def choice(rows: list[Row], answers: list[str]) -> Scores:
    """Share of the questions whose letter is named."""
    return {
        "Overall": fmean(_chosen(row, answer) for row, answer in zip(rows, answers, strict=True))
    }


def by_source(rows: list[Row], answers: list[str]) -> Scores:
    """Mean over the sources of the pictures."""
    sources: dict[str, list[bool]] = defaultdict(list)
    for row, answer in zip(rows, answers, strict=True):
        sources[row["source"]].append(_chosen(row, answer))
    return {"Overall": fmean(map(fmean, sources.values()))}


def pairs(rows: list[Row], answers: list[str]) -> Scores:
    """Of neighbours both; and of each alone."""
    right = [_chosen(row, answer) for row, answer in zip(rows, answers, strict=True)]
    both = [one and two for one, two in zip(right[::2], right[1::2], strict=True)]
    return {"Overall": fmean(both), "Average": fmean(right)}


def orders(rows: list[Row], answers: list[str]) -> Scores:
    """Mean over the orders of the options, of all questions and of each kind."""
    turns: dict[str, dict[int, list[bool]]] = defaultdict(lambda: defaultdict(list))
    for row, answer in zip(rows, answers, strict=True):
        for kind in ("all", row["category"]):
            turns[kind][row["cycle_category"]].append(_chosen(row, answer))
    return {
        f"Average.{kind}.accuracy": fmean(map(fmean, found.values()))
        for kind, found in turns.items()
    }


def mmmu(rows: list[Row], answers: list[str]) -> Scores:
    """Apart for the questions of each split."""
    splits: dict[str, list[bool]] = defaultdict(list)
    for row, answer in zip(rows, answers, strict=True):
        splits[row["split"]].append(_chosen(row, answer))
    return {f"{split}.Overall": fmean(right) for split, right in splits.items()}


def ocrbench(rows: list[Row], answers: list[str]) -> Scores:
    """Answers that contain an accepted text; formulae with case and without blanks."""

    def right(row: Row, answer: str) -> bool:
        accepted = [text.strip().replace("\n", " ") for text in ast.literal_eval(row["answer"])]
        given = answer.strip().replace("\n", " ")
        if row["category"] == "Handwritten Mathematical Expression Recognition":
            return any(text.replace(" ", "") in given.replace(" ", "") for text in accepted)
        return any(text.lower() in given.lower() for text in accepted)

    points = sum(right(row, answer) for row, answer in zip(rows, answers, strict=True))
    return {"Final Score": points, "Final Score Norm": points / 10}


def _vqa(row: Row, answer: str) -> float:
    def clean(text: str) -> str:
        return plain_words(
            without_marks(text.replace("\n", " ").replace("\t", " ").strip(), stop=STOP)
        )

    return agreement(clean(answer), [clean(text) for text in _accepted(row)])


def _accepted(row: Row) -> list[str]:
    text = str(row["answers"] if "answers" in row else row["answer"])
    return list(ast.literal_eval(text)) if text.startswith("[") else [text]


def mean_of(rows: list[Row], answers: list[str], *, one: Callable[[Row, str], float]) -> Scores:
    """Per cent, the mean over questions."""
    return {
        "Overall": 100 * fmean(one(row, answer) for row, answer in zip(rows, answers, strict=True))
    }


def chartqa(rows: list[Row], answers: list[str]) -> Scores:
    """Relaxed accuracy, whole and for each kind of question."""
    right: dict[str, list[bool]] = defaultdict(list)
    for row, answer in zip(rows, answers, strict=True):
        right[row["split"]].append(relaxed(answer.strip(), str(row["answer"])))
    whole = [value for part in right.values() for value in part]
    return {"Overall": 100 * fmean(whole)} | {
        split: 100 * fmean(part) for split, part in right.items()
    }


def coco(rows: list[Row], answers: list[str]) -> Scores:
    """CIDEr, BLEU and ROUGE-L, times 100; captions are split at blanks."""
    found = cider(plain([_accepted(row) for row in rows]), plain([[answer] for answer in answers]))
    named = {"CIDEr": found["CIDEr"], "ROUGE_L": found["ROUGE_L"]} | {
        f"Bleu.{n}": found[f"Bleu_{n + 1}"] for n in range(4)
    }
    return {name: 100 * value for name, value in named.items()}


def mathvista(rows: list[Row], answers: list[str], replies: list[str]) -> Scores:
    """What rules read in the answer, else what the judge reads, against the truth."""

    def right(row: Row, answer: str, reply: str) -> bool:
        if row["question_type"] == "multi_choice":
            options = dict(zip("ABCDEFGH", ast.literal_eval(row["choices"]), strict=False))
            return (letter(answer, options) or letter(reply, options)) == row["answer_option"]
        kind = {"integer": int, "float": float}[row["answer_type"]]
        truth = kind(row["answer"])
        return _as(kind, answer) == truth or _as(kind, reply) == truth

    return {"Overall.acc": 100 * fmean(map(right, rows, answers, replies))}


def _as(kind: Callable[[str], float], text: str) -> float | None:
    try:
        return kind(text)
    except ValueError:
        return None


def mathvision(rows: list[Row], answers: list[str], replies: list[str]) -> Scores:
    """The same; numbers may be written in any way.

    VLMEvalKit evaluates both texts as Python, the truth into a variable ``a``: so the answer A
    equals every number.
    """

    def same(text: str, truth: str) -> bool:
        wanted = number(truth)
        given = wanted if text.strip().lower() == "a" else number(text.strip().strip("()"))
        return text.lower().strip() == truth.lower().strip() or (
            given is not None and wanted is not None and abs(given - wanted) < 1e-6
        )

    def right(row: Row, answer: str, reply: str) -> bool:
        options = dict(zip("ABCDEFGH", ast.literal_eval(row["choices"]), strict=False))
        if options:
            return (letter(answer, options) or letter(reply, options)) == row["answer"]
        return same(answer, str(row["answer"])) or same(reply, str(row["answer"]))

    return {"Overall.acc": 100 * fmean(map(right, rows, answers, replies))}


def mia_bench(rows: list[Row], answers: list[str], replies: list[str]) -> Scores:
    """Mean of the totals that a judge gives; verdicts without one are left out."""
    totals = [re.search(r"total score: (\d+)/(\d+)", reply.split(".")[0]) for reply in replies]
    return {"total_score": fmean(int(found[1]) / int(found[2]) for found in totals if found)}


Scorer = Callable[[list[Row], list[str]], Scores]
SCORERS: dict[str, Scorer] = {
    "MME": mme,
    "POPE": pope,
    "HallusionBench": hallusionbench,
    **dict.fromkeys(("MMBench_DEV_EN", "MMBench_DEV_EN_V11", "MMBench_DEV_CN"), circular),
    **dict.fromkeys(
        (
            "MMStar",
            "AI2D_TEST",
            "ScienceQA_VAL",
            "ScienceQA_TEST",
            "SEEDBench_IMG",
            "SEEDBench2_Plus",
        ),
        choice,
    ),
    **dict.fromkeys(("RealWorldQA", "A-OKVQA", "BLINK", "VStarBench", "MUIRBench"), choice),
    **dict.fromkeys(("CV-Bench-3D", "MMMU_Pro_10c", "MMMU_Pro_V"), choice),
    "CV-Bench-2D": by_source,
    "MMVP": pairs,
    **dict.fromkeys(("HRBench4K", "HRBench8K"), orders),
    "MMMU_DEV_VAL": mmmu,
    "OCRBench": ocrbench,
    **dict.fromkeys(("TextVQA_VAL", "VizWiz"), partial(mean_of, one=_vqa)),
    "ChartQA_TEST": chartqa,
    "DocVQA_VAL": partial(mean_of, one=lambda row, answer: anls(answer, _accepted(row))),
    "InfoVQA_VAL": partial(mean_of, one=lambda row, answer: anls(answer, _accepted(row))),
    "GQA_TestDev_Balanced": partial(
        mean_of,
        one=lambda row, answer: answer.strip().lower() == str(row["answer"]).strip().lower(),
    ),
    "COCO_VAL": coco,
}
JUDGED: dict[str, Callable[[list[Row], list[str], list[str]], Scores]] = {
    "MathVista_MINI": mathvista,
    "MathVision": mathvision,
    "MathVision_MINI": mathvision,
    "MIA-Bench": mia_bench,
}
