"""Scores of lmms-eval's tasks from the documents and the raw answers."""

from __future__ import annotations

import ast
import random
import re
import string
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from statistics import fmean
from typing import Any

from tests.harness.scoring._captions import cider, meteor, penn
from tests.harness.scoring._text import (
    agreement,
    anls,
    only_named,
    plain_words,
    relaxed,
    without_marks,
)
from tests.harness.scoring._vlmevalkit import PERCEPTION

Row = dict[str, Any]
Scores = dict[str, float]
STOP = r"\.(?!\d)"
PHRASES = tuple(
    f"{article}{best}{noun} is"
    for article in ("the ", "")
    for best in ("correct ", "best ")
    for noun in ("answer", "option")
)
PHRASES += (
    "the answer is",
    "answer is",
    "the choice is",
    "choice is",
    "the correct choice is",
    "correct choice is",
)
PHRASES += (
    "i choose",
    "i select",
    "i pick",
    "my answer is",
    "my choice is",
    "选",
    "答案是",
    "答案为",
)
LETTERS = "ABCD"


def mme(rows: list[Row], answers: list[str]) -> Scores:
    """Sum over categories of the mean over pictures: accuracy of the pair, and 100 more for both
    right.
    """

    def said(answer: str) -> str:
        text = answer.lower().strip().replace(".", "")
        if len(text) == 1:
            return {"y": "yes", "n": "no"}.get(text, "other")
        return next((word for word in ("yes", "no") if word in text[:4]), "other")

    pictures: dict[str, dict[str, list[bool]]] = defaultdict(lambda: defaultdict(list))
    for row, answer in zip(rows, answers, strict=True):
        pictures[row["category"]][row["question_id"]].append(said(answer) == row["answer"].lower())
    scores = {
        name: fmean(100 * fmean(pair) + 100 * all(pair) for pair in pairs.values())
        for name, pairs in pictures.items()
    }
    perception = sum(score for category, score in scores.items() if category in PERCEPTION)
    return {
        "mme_perception_score": perception,
        "mme_cognition_score": sum(scores.values()) - perception,
    }


def pope(rows: list[Row], answers: list[str]) -> Scores:
    """The whole answer is compared; what is neither yes nor no is wrong, but no miss."""
    pairs = [
        (row["answer"].lower(), answer.lower().strip())
        for row, answer in zip(rows, answers, strict=True)
    ]
    hits, alarms, misses = (
        pairs.count(pair) for pair in (("yes", "yes"), ("no", "yes"), ("yes", "no"))
    )
    precision, recall = (
        hits / (hits + other) if hits + other else 0.0 for other in (alarms, misses)
    )
    f1 = 2 * precision * recall / (precision + recall) if hits else 0.0
    accuracy = fmean(truth == said for truth, said in pairs)
    return {
        "pope_accuracy": accuracy,
        "pope_f1_score": f1,
        "pope_precision": precision,
        "pope_recall": recall,
    }


def ranked_letter(answer: str, letters: str = LETTERS) -> str:
    """The letter in the most telling place, the last one where several are alike."""
    bare = answer.strip()
    for mark in ",.!?;:'\"":
        bare = bare.strip(mark)
    text, core = f" {bare} ", bare.strip()
    if not core:
        return ""
    found: list[tuple[int, int, str]] = []  # how telling, where, which
    for letter in letters:
        for rank, shape in (
            (6, f"({letter})"),
            (5, f"{letter}."),
            (4, f"{letter}:"),
            (3, f"{letter})"),
            (2, f"{letter} "),
        ):
            if shape in text:
                found.append((rank, text.rfind(shape), letter))
        if core.startswith(letter) and not core[1:2].isalpha():
            found.append((10, 0, letter))
        if core.endswith(letter) and not core[-2:-1].isalpha():
            found.append((9, len(text) - 1, letter))
        for phrase in PHRASES:
            start = text.lower().find(phrase)
            place = text.find(letter, start + len(phrase)) if start >= 0 else -1
            if place >= 0:
                found.append((7, place, letter))
    found = found or [(0, text.rfind(letter), letter) for letter in letters if letter in text]
    return max(found, key=lambda one: one[:2])[2] if found else ""


def mmbench(rows: list[Row], answers: list[str]) -> Scores:
    """A question is right if it is for every rotation; letters alone first, then texts, then ranked
    letters.
    """
    groups: dict[int, list[bool]] = defaultdict(list)
    for row, answer in zip(rows, answers, strict=True):
        options = {letter: str(row[letter]) for letter in LETTERS}
        said = (
            _lone_letter(answer.strip())
            or only_named(answer.strip(), options)
            or ranked_letter(answer)
        )
        groups[row["index"] % 1_000_000].append(said == row["answer"])
    return {"gpt_eval_score": 100 * fmean(map(all, groups.values()))}


def _lone_letter(answer: str) -> str:
    words = answer.split()
    named = [letter for letter in "ABCDE" if letter in words]
    if len(named) == 1 and not ("A" in words and len(words) > 3):  # A may be an article
        return named[0]
    for shape in (
        "{}.",
        "{},",
        "{}:",
        "{})",
        "{}).",
        "({})",
        "({}).",
        ":{}",
        ":{},",
        ":{}.",
        ":{})",
        ":{}).",
    ):
        named = [letter for letter in "ABCDE" if shape.format(letter) in words]
        if len(named) == 1:
            return named[0]
    return ""


def mmstar(rows: list[Row], answers: list[str]) -> Scores:
    """Mean over the finer abilities of their accuracies."""
    right: dict[str, list[bool]] = defaultdict(list)
    for row, answer in zip(rows, answers, strict=True):
        right[row["l2_category"]].append(ranked_letter(answer) == row["answer"])
    return {"average": fmean(map(fmean, right.values()))}


def scienceqa(rows: list[Row], answers: list[str]) -> Scores:
    """The letter alone, or first with a full stop."""

    def right(row: Row, answer: str) -> bool:
        said, truth = answer.strip(), "ABCDE"[row["answer"]]
        return said.lower() == truth.lower() or said[:2] == f"{truth}."

    return {"exact_match": fmean(map(right, rows, answers))}


def ocrbench(rows: list[Row], answers: list[str]) -> Scores:
    """Answers that contain an accepted text, in thousandths whatever their number."""

    def right(row: Row, answer: str) -> bool:
        given = answer.strip().replace("\n", " ")
        accepted = [text.strip().replace("\n", " ") for text in row["answer"]]
        if row["dataset"] == "HME100k":
            return any(text.replace(" ", "") in given.replace(" ", "") for text in accepted)
        return any(text.lower() in given.lower() for text in accepted)

    return {"ocrbench_accuracy": sum(map(right, rows, answers)) / 1000}


def _bare(text: str) -> str:
    return text.lower().translate(str.maketrans("", "", string.punctuation))


def ai2d(rows: list[Row], answers: list[str]) -> Scores:
    """The letter first with a full stop, else the whole answer without punctuation."""

    def right(row: Row, answer: str) -> bool:
        first = re.match(r"\s*([A-Z])\.", answer)
        return _bare(first[1] if first else answer) == LETTERS[int(row["answer"])].lower()

    return {"exact_match": fmean(map(right, rows, answers))}


def chartqa(rows: list[Row], answers: list[str]) -> Scores:
    """Relaxed accuracy, whole and for each kind of question."""
    right = [relaxed(answer, row["answer"]) for row, answer in zip(rows, answers, strict=True)]
    parts = {
        f"relaxed_{kind}_split": fmean(
            value for row, value in zip(rows, right, strict=True) if row["type"].startswith(kind)
        )
        for kind in ("human", "augmented")
    }
    return {"relaxed_overall": fmean(right), **parts}


def documents(rows: list[Row], answers: list[str]) -> Scores:
    """Mean ANLS."""
    return {
        "anls": fmean(
            anls(answer, row["answers"]) for row, answer in zip(rows, answers, strict=True)
        )
    }


def vqa(rows: list[Row], answers: list[str], *, split_words: bool = True) -> Scores:
    """Agreement with ten people."""

    def clean(text: str) -> str:
        if split_words:
            text = text.lower().replace(",", "").replace("?", "").replace("'s", " 's")
        return plain_words(
            without_marks(text.strip().replace("\n", " ").replace("\t", " "), stop=STOP)
        )

    def one(row: Row, answer: str) -> float:
        people = [
            person["answer"] if isinstance(person, dict) else person for person in row["answers"]
        ]
        return agreement(clean(answer), [clean(text) for text in people])

    return {"exact_match": fmean(map(one, rows, answers))}


def gqa(rows: list[Row], answers: list[str]) -> Scores:
    """The whole answer without case and punctuation."""
    return {
        "exact_match": fmean(
            _bare(answer) == _bare(row["answer"]) for row, answer in zip(rows, answers, strict=True)
        )
    }


def first_letter(
    rows: list[Row], answers: list[str], *, whole: str, part: Callable[[Row], str]
) -> Scores:
    """The first character is compared; whole and for each kind of picture."""
    right: dict[str, list[bool]] = defaultdict(list)
    for row, answer in zip(rows, answers, strict=True):
        hit = answer.strip()[:1].lower() == row["answer"].lower()
        right[whole].append(hit)
        right[part(row)].append(hit)
    return {name: fmean(values) for name, values in right.items()}


def mmmu(rows: list[Row], answers: list[str]) -> Scores:
    """The last letter named; an answer without one is a guess, by Python's generator seeded with 0."""
    guesses = random.Random(0)

    def said(row: Row, answer: str) -> str:
        for mark in ",.!?;:'":
            answer = answer.strip(mark)
        text, options = (
            f" {answer} ",
            dict(zip(string.ascii_uppercase, ast.literal_eval(row["options"]), strict=False)),
        )
        for named, place in (("({})", "({})"), ("{} ", " {} "), ("{}.", " {} ")):
            letters = [letter for letter in options if named.format(letter) in text]
            if letters:
                return max(letters, key=lambda letter: text.rfind(place.format(letter)))
        words = (
            [letter for letter, option in options.items() if option.lower() in text.lower()]
            if len(text.split()) > 5
            else []
        )
        if words:
            return max(words, key=lambda letter: text.lower().rfind(options[letter].lower()))
        return guesses.choice(list(options))

    return {
        "mmmu_acc": round(
            fmean(
                said(row, answer) == row["answer"]
                for row, answer in zip(rows, answers, strict=True)
            ),
            5,
        )
    }


def cv_bench(rows: list[Row], answers: list[str]) -> Scores:
    """The letter that an answer begins with, in parentheses or not."""

    def right(row: Row, answer: str) -> bool:
        first = re.match(r"[(\s]*([A-Za-z])", answer.strip())
        return first is not None and first[1].upper() == row["answer"].strip("()")

    return {"cv_bench_acc": fmean(map(right, rows, answers))}


def mme_realworld(rows: list[Row], answers: list[str]) -> Scores:
    """The first capital letter of A to E; without one, an option that has the answer in it."""

    def said(row: Row, answer: str) -> str:
        for begin in ("The best answer is", "The correct answer is", "The answer is", "The answer"):
            answer = answer.strip().replace(begin, "")
        if found := re.search("[ABCDE]", answer):
            return found[0]
        # lmms-eval looks for the answer among bare letters in parentheses
        named = [letter for letter in "ABCDE" if answer.lower() in f"({letter})".lower()]
        return named[0] if named and len(answer.split()) <= 10 else ""

    return {
        "mme_realworld_score": fmean(
            said(row, answer) == row["answer"] for row, answer in zip(rows, answers, strict=True)
        )
    }


def mmmu_pro_vision(rows: list[Row], answers: list[str]) -> Scores:
    """The whole answer is compared with the letter."""
    right = [row["answer"] == answer for row, answer in zip(rows, answers, strict=True)]
    return {"mmmu_acc": round(fmean(right), 5)}


def mmvp(rows: list[Row], answers: list[str]) -> Scores:
    """The letter, by the first of several patterns that fits; of pairs both."""

    def said(answer: str) -> str:
        for shape in (r"^\s*\(?([AB])\)?\.?\s*$", r"^\s*\(?([AB])\)?[.\s]",
                      r"answer\s+is\s+\(?([AB])\)?", r"option\s+\(?([AB])\)?",
                      r"\(?([AB])\)?(?:\s|$)"):  # fmt: skip
            if found := re.search(shape, answer.strip(), re.IGNORECASE):
                return found[1].upper()
        first = answer.strip()[:1].upper()
        return first if first in ("A", "B") else ""

    right = [
        said(answer) == row["Correct Answer"].strip("()").upper()
        for row, answer in zip(rows, answers, strict=True)
    ]
    both = [one and two for one, two in zip(right[::2], right[1::2], strict=True)]
    return {"mmvp_accuracy": fmean(right), "mmvp_pair_accuracy": fmean(both)}


def muirbench(rows: list[Row], answers: list[str]) -> Scores:
    """The letter first with a full stop, else the whole answer."""

    def said(answer: str) -> str:
        first = re.match(r"\s*([A-Z])\.", answer)
        return (first[1] if first else answer).lower().strip()

    right = [
        said(answer) == row["answer"].lower() for row, answer in zip(rows, answers, strict=True)
    ]
    return {"muirbench_score_overall": fmean(right)}


def refcoco(rows: list[Row], answers: list[str]) -> Scores:
    """Overlap with the box: of the first four numbers in brackets, as shares of a picture."""
    side = 336
    overlaps, centres = [], []
    spoken = [(row, expression) for row in rows for expression in row["answer"]]
    for (row, _), answer in zip(spoken, answers, strict=True):
        left, top, width, height = (value / side for value in row["bbox"])
        box = (left, top, left + width, top + height)
        found = re.search(r"\[" + ",".join([r"\s*(-?\d+(?:\.\d+)?)"] * 4) + r"\s*\]", answer)
        given = tuple(map(float, found.groups())) if found else (0.0,) * 4
        across = max(0.0, min(box[2], given[2]) - max(box[0], given[0]))
        down = max(0.0, min(box[3], given[3]) - max(box[1], given[1]))
        area = width * height + (given[2] - given[0]) * (given[3] - given[1])
        overlaps.append(across * down / (area - across * down))
        middle = ((given[0] + given[2]) / 2, (given[1] + given[3]) / 2)
        centres.append(box[0] <= middle[0] <= box[2] and box[1] <= middle[1] <= box[3])
    return {
        "refcoco_ACC@0.5": fmean(overlap >= 0.5 for overlap in overlaps),
        "refcoco_IoU": fmean(overlaps),
        "refcoco_Center_ACC": fmean(centres),
    }


def screenspot(rows: list[Row], answers: list[str]) -> Scores:
    """A point inside the box, of answers that name one as two numbers in brackets; the stand-in's
    model never says more.
    """
    right: dict[str, list[bool]] = defaultdict(list)
    for row, answer in zip(rows, answers, strict=True):
        found = re.search(r"[\[(]\s*(-?\d+(?:\.\d+)?)\s*[,\s]\s*(-?\d+(?:\.\d+)?)\s*[\])]", answer)
        x, y = map(float, found.groups()) if found else (-1.0, -1.0)
        scale = row["image_width"] if max(x, y) <= 1 else 1
        low, high = row["bbox"][:2], row["bbox"][2:]
        inside = low[0] <= x * scale <= high[0] and low[1] <= y * scale <= high[1]
        right["action"].append(inside)
        right[row["data_type"]].append(inside)
    return {f"screenspot_v2_{kind}_acc": fmean(values) for kind, values in right.items()}


def ranked(rows: list[Row], answers: list[str], *, metric: str, best: float) -> Scores:
    """The letter in the most telling place."""
    return {
        metric: (
            best
            * fmean(
                ranked_letter(answer) == row["answer"]
                for row, answer in zip(rows, answers, strict=True)
            )
        )
    }


def vinoground(rows: list[Row], answers: list[str], truths: dict[str, dict[str, str]]) -> Scores:
    """Per cent of the 500 pairs with both questions right: about captions, about clips, all four."""
    right: dict[str, dict[str, list[bool]]] = defaultdict(lambda: defaultdict(list))
    for row, answer in zip(rows, answers, strict=True):
        number, sign, way = row["index"].split("_")
        right[way][number].append(answer[:1].lower() == truths[way][f"{number}_{sign}"].lower())
    text, video = ([all(pair) for pair in right[way].values()] for way in ("text", "video"))
    both = [a and b for a, b in zip(text, video, strict=True)]
    return {
        f"vinoground_score.{place}": 100 * fmean(values)
        for place, values in enumerate((text, video, both))
    }


def captions(rows: list[Row], answers: list[str], *, prefix: str, column: str) -> Scores:
    """CIDEr, BLEU, ROUGE-L and METEOR on Penn Treebank tokens."""
    truths, given = penn([row[column] for row in rows]), penn([[answer] for answer in answers])
    return {
        prefix + name: value
        for name, value in (cider(truths, given) | {"METEOR": meteor(truths, given)}).items()
    }


Scorer = Callable[[list[Row], list[str]], Scores]
SCORERS: dict[str, Scorer] = {
    "mme": mme,
    **dict.fromkeys(("pope", "pope_adv"), pope),
    "mmbench_en_dev_static": mmbench,
    "mmstar": mmstar,
    "scienceqa_img": scienceqa,
    "scienceqa": scienceqa,
    "ocrbench": ocrbench,
    "ai2d": ai2d,
    "chartqa": chartqa,
    **dict.fromkeys(("docvqa_val", "infovqa_val"), documents),
    **dict.fromkeys(("textvqa_val", "ok_vqa_val2014", "vizwiz_vqa_val"), vqa),
    "vqav2_val": partial(vqa, split_words=False),
    "gqa": gqa,
    "seedbench": partial(
        first_letter, whole="seed_all", part=lambda row: f"seed_{row['data_type']}"
    ),
    "seedbench_2_plus": partial(
        first_letter,
        whole="seedbench_2_plus_all",
        part=lambda row: f"seedbench_2_plus_{row['question_image_type'].capitalize()}",
    ),
    **dict.fromkeys(("mmmu_val", "mmmu_pro_standard"), mmmu),
    "mmmu_pro_vision": mmmu_pro_vision,
    **dict.fromkeys(("cv_bench", "cv_bench_2d", "cv_bench_3d"), cv_bench),
    **dict.fromkeys(("mmerealworld", "mmerealworld_lite"), mme_realworld),
    "mmvp": mmvp,
    "muirbench": muirbench,
    **dict.fromkeys(
        ("refcoco_bbox_rec_val", "refcoco+_bbox_rec_val", "refcocog_bbox_rec_val"), refcoco
    ),
    "screenspot_v2": screenspot,
    "realworldqa": partial(ranked, metric="exact_match", best=1),
    "videomme": partial(ranked, metric="videomme_perception_score", best=100),
    "coco2017_cap_val": partial(captions, prefix="coco_", column="answer"),
    "nocaps_val": partial(captions, prefix="nocaps_", column="annotations_captions"),
    "flickr30k_test": partial(captions, prefix="flickr_", column="caption"),
}
