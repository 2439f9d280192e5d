"""Tables of official VLMEvalKit data sets, with the published columns and our pictures.

Names and columns: ms-vlmeval 0.0.20, ``vlmeval/dataset/image_yorn.py``, ``image_mcq.py``,
``image_vqa.py``, ``image_caption.py``, ``miabench.py`` and what ``vlmeval/dataset/utils`` reads of
them.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import pandas as pd

from tests.harness.standins._questions import (
    LETTERS,
    Asked,
    attributes,
    caption,
    choices,
    counts,
    exists,
    exists_in_pairs,
    readings,
    tally,
)

Row = dict[str, object]
ABILITIES = (
    ("object_localization", "finegrained_perception (instance-level)"),
    ("attribute_recognition", "coarse_perception"),
)
MME_CATEGORIES = ("existence", "color", "code_reasoning")
POPE_CATEGORIES = ("adversarial", "popular", "random")
OCR_CATEGORIES = (
    "Regular Text Recognition",
    "Scene Text-centric VQA",
    # its scoring alone is case sensitive and ignores spaces
    "Handwritten Mathematical Expression Recognition",
)
HINT = (
    "Hint: Please answer the question requiring an integer answer and provide the final value,"
    " e.g., 1, 2, 3, at the end.\nQuestion: "
)
LETTER_HINT = (
    "Hint: Please answer the question and provide the correct option letter, e.g., A, B, C, D, at"
    " the end.\nQuestion: "
)


def write(name: str, folder: Path, size: int) -> Path:
    """Write ``<folder>/<name>.tsv`` with about ``size`` questions and return it."""
    path = folder / f"{name}.tsv"
    folder.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(VLMEVALKIT[name](size)).to_csv(path, sep="\t", index=False)
    return path


def _encode(asked: Asked) -> str:
    return base64.b64encode(asked.png).decode()


def _row(index: int | str, asked: Asked, **more: object) -> Row:
    return {
        "index": index,
        "image": _encode(asked),
        "question": asked.text,
        "answer": asked.answer,
        **more,
    }


def _lettered(options: Sequence[str]) -> Row:
    return dict(zip(LETTERS, options, strict=False))


def _mme(size: int) -> list[Row]:
    return [
        _row(i, asked, category=MME_CATEGORIES[i // 2 % 3], image_path=f"{i // 2}.png")
        | {"question": f"{asked.text} Please answer yes or no."}
        for i, asked in enumerate(exists_in_pairs(size // 2))
    ]


def _pope(size: int) -> list[Row]:
    return [_row(i, asked, category=POPE_CATEGORIES[i % 3]) for i, asked in enumerate(exists(size))]


def _hallusionbench(size: int) -> list[Row]:
    """Index: category, subcategory, whether it has a picture, set, figure, question."""
    return [
        _row(
            f"VD_figure_1_{i // 4}_{i // 2 % 2}_{i % 2}",
            asked,
            category="VD",
            **{"l2-category": "figure"},
        )
        for i, asked in enumerate(exists_in_pairs(size // 2))
    ]


def _mmbench(size: int, before: str = "") -> list[Row]:
    """Every question is asked once for each rotation of its options; the picture is stored once."""
    rows = []
    for i, asked in enumerate(choices(size // len(LETTERS))):
        category, parent = ABILITIES[i % 2]
        for turn in range(len(LETTERS)):
            options = asked.options[turn:] + asked.options[:turn]
            row = _row(
                i + turn * 1_000_000,
                asked,
                category=category,
                **{"l2-category": parent},
                split="dev",
            )
            row |= _lettered(options)
            row |= {"question": before + asked.text, "answer": LETTERS[options.index(asked.right)]}
            rows.append(row if turn == 0 else row | {"image": str(i)})
    return rows


def _choice(size: int, **columns: Callable[[int], object]) -> list[Row]:
    """One row per question; ``columns`` are the set's own, by row number."""
    return [
        _row(
            i,
            asked,
            **_lettered(asked.options),
            **{name.replace("__", "-"): value(i) for name, value in columns.items()},
        )
        for i, asked in enumerate(choices(size))
    ]


def _ability(i: int) -> str:
    return ABILITIES[i % 2][0]


def _mmmu(size: int) -> list[Row]:
    rows = _choice(
        size,
        category=lambda i: ("Art", "Physics")[i % 2],
        l2__category=lambda i: ("Art & Design", "Science")[i % 2],
    )
    return [
        row
        | {
            "question": f"<image 1> {row['question']}",
            "split": ("validation", "dev")[i % 4 == 3],
        }
        for i, row in enumerate(rows)
    ]


def _ocrbench(size: int) -> list[Row]:
    return [
        _row(i, asked, category=OCR_CATEGORIES[i % 3]) | {"answer": str([asked.answer])}
        for i, asked in enumerate(readings(size))
    ]


def _textvqa(size: int) -> list[Row]:
    """Ten people answered: two of them wrongly, as the score of a right answer needs three others."""
    return [
        _row(i, asked) | {"answer": str([asked.answer] * 8 + ["unanswerable"] * 2)}
        for i, asked in enumerate(readings(size))
    ]


def _vizwiz(size: int) -> list[Row]:
    """As TextVQA, with the answers under another name."""
    return [
        {
            "index": i,
            "image": _encode(asked),
            "question": asked.text,
            "answers": str([asked.answer] * 8 + ["unanswerable"] * 2),
        }
        for i, asked in enumerate(attributes(size))
    ]


def _chartqa(size: int) -> list[Row]:
    return [
        _row(i, asked, split=("test_human", "test_augmented")[i % 2])
        for i, asked in enumerate(counts(size))
    ]


def _listed(size: int, questions: Callable[[int], list[Asked]]) -> list[Row]:
    return [
        _row(i, asked) | {"answer": str([asked.answer])} for i, asked in enumerate(questions(size))
    ]


def _gqa(size: int) -> list[Row]:
    return [_row(i, asked) for i, asked in enumerate(attributes(size))]


def _coco(size: int) -> list[Row]:
    """No question: the data set's class brings it."""
    return [
        {
            "index": i,
            "image": _encode(asked),
            "answer": str([caption(asked.scene), tally(asked.scene)]),
        }
        for i, asked in enumerate(exists(size))
    ]


def _hrbench(size: int) -> list[Row]:
    """Every question is asked in four orders of its options."""
    rows = []
    for i, asked in enumerate(choices(size // len(LETTERS))):
        for turn in range(len(LETTERS)):
            options = asked.options[turn:] + asked.options[:turn]
            kind = ("single", "cross")[i % 2]
            row = _row(len(rows), asked, category=kind, cycle_category=turn)
            rows.append(row | _lettered(options) | {"answer": LETTERS[options.index(asked.right)]})
    return rows


def _cv_bench(size: int, split: str, sources: tuple[str, ...]) -> list[Row]:
    """The class asks what stands under ``prompt``, options included."""
    rows = _choice(
        size,
        category=lambda i: ("Count", "Relation")[i % 2],
        split=lambda i: split,
        source=lambda i: sources[i % len(sources)],
    )
    for row in rows:
        options = "\n".join(f"{letter}. {row[letter]}" for letter in LETTERS)
        ending = "Answer with the option's letter from the given choices directly."
        row["prompt"] = f"{row['question']}\n{options}\n{ending}"
    return rows


def _mmmu_pro(size: int) -> list[Row]:
    """Ten options, of which the last six are never right."""
    rows = _choice(size, category=lambda i: ("Art", "Physics")[i % 2], split=lambda i: "test")
    more = {letter: f"none of these, for reason {i}" for i, letter in enumerate("EFGHIJ", 1)}
    return [row | more | {"question": f"<image 1> {row['question']}"} for row in rows]


def _mmvp(size: int) -> list[Row]:
    """Pairs of one question with its two options the other way round."""
    rows = []
    for asked in choices(size // 2):
        other = next(option for option in asked.options if option != asked.right)
        for options, answer in (((asked.right, other), "A"), ((other, asked.right), "B")):
            row = _row(len(rows), asked, category="Color and Appearance")
            rows.append(row | _lettered(options) | {"answer": answer})
    return rows


def _muirbench(size: int) -> list[Row]:
    """Two pictures, named where they stand."""
    rows = _choice(size, category=lambda i: ("Counting", "Ordering")[i % 2])
    for row in rows:
        row["image"] = str([row["image"]] * 2)
        row["question"] = f"<image><image>{row['question']}"
    return rows


def _mathvista(size: int) -> list[Row]:
    open_ended = [
        _row(
            i,
            asked,
            answer_option="",
            choices="[]",
            question_type="free_form",
            answer_type="integer",
        )
        | {"question": HINT + asked.text}
        for i, asked in enumerate(counts(size // 2))
    ]
    lettered = [
        _row(
            i,
            asked,
            answer_option=asked.answer,
            choices=str(list(asked.options)),
            question_type="multi_choice",
            answer_type="text",
        )
        | {
            "question": f"{LETTER_HINT}{asked.text}\nChoices:\n{_parenthesised(asked.options)}",
            "answer": asked.right,
        }
        for i, asked in enumerate(choices(size - size // 2), len(open_ended))
    ]
    tasks = ("visual question answering", "figure question answering")
    return [
        row | {"task": tasks[i % 2], "skills": "['statistical reasoning']"}
        for i, row in enumerate(open_ended + lettered)
    ]


def _parenthesised(options: Sequence[str]) -> str:
    return "\n".join(
        f"({letter}) {option}" for letter, option in zip(LETTERS, options, strict=False)
    )


def _mathvision(size: int) -> list[Row]:
    open_ended = [
        _row(i, asked, choices="[]", category="counting")
        for i, asked in enumerate(counts(size // 2))
    ]
    lettered = [
        _row(i, asked, choices=str(list(asked.options)), category="metric geometry - area")
        | {"question": f"{asked.text}\nChoices:\n{_parenthesised(asked.options)}"}
        for i, asked in enumerate(choices(size - size // 2), len(open_ended))
    ]
    return open_ended + lettered


def _mia_bench(size: int) -> list[Row]:
    return [
        {
            "index": i,
            "image": _encode(asked),
            "question": f"{asked.text} Answer in capital letters.",
            "type": "basic",
            "num_of_component": 2,
            "components": str([asked.text, "Answer in capital letters."]),
            "component_weight": str([6, 4]),
            "component_type": str(["describe", "format"]),
        }
        for i, asked in enumerate(attributes(size))
    ]


VLMEVALKIT: dict[str, Callable[[int], list[Row]]] = {
    "MME": _mme,
    "POPE": _pope,
    "HallusionBench": _hallusionbench,
    "MMBench_DEV_EN": _mmbench,
    "MMBench_DEV_EN_V11": _mmbench,
    "MMBench_DEV_CN": partial(_mmbench, before="看图回答："),
    "MMStar": partial(
        _choice,
        category=lambda i: ("coarse perception", "math")[i % 2],
        l2__category=lambda i: ("image emotion", "geometry")[i % 2],
    ),
    "AI2D_TEST": partial(_choice, category=lambda i: ("foodChainsWebs", "eclipses")[i % 2]),
    "ScienceQA_VAL": partial(
        _choice,
        hint=lambda i: None if i % 2 else "Look at the image.",
        category=lambda i: "geography",
        split=lambda i: "val",
    ),
    "ScienceQA_TEST": partial(
        _choice,
        hint=lambda i: None if i % 2 else "Look at the image.",
        category=lambda i: "geography",
        split=lambda i: "test",
    ),
    "SEEDBench_IMG": partial(
        _choice, category=lambda i: ("Instance Attributes", "Instances Counting")[i % 2]
    ),
    "SEEDBench2_Plus": partial(_choice, category=lambda i: ("chart", "map", "web")[i % 3]),
    "RealWorldQA": _choice,
    "A-OKVQA": _choice,
    "MMMU_DEV_VAL": _mmmu,
    "BLINK": partial(_choice, category=lambda i: ("Counting", "Relative_Depth")[i % 2]),
    "VStarBench": partial(
        _choice, category=lambda i: ("direct_attributes", "relative_position")[i % 2]
    ),
    "HRBench4K": _hrbench,
    "HRBench8K": _hrbench,
    "CV-Bench-2D": partial(_cv_bench, split="2D", sources=("ADE20K", "COCO")),
    "CV-Bench-3D": partial(_cv_bench, split="3D", sources=("Omni3D",)),
    "MMMU_Pro_10c": _mmmu_pro,
    "MMMU_Pro_V": _mmmu_pro,
    "MMVP": _mmvp,
    "MUIRBench": _muirbench,
    "OCRBench": _ocrbench,
    "TextVQA_VAL": _textvqa,
    "VizWiz": _vizwiz,
    "ChartQA_TEST": _chartqa,
    "DocVQA_VAL": partial(_listed, questions=readings),
    "InfoVQA_VAL": partial(_listed, questions=counts),
    "GQA_TestDev_Balanced": _gqa,
    "COCO_VAL": _coco,
    "MathVista_MINI": _mathvista,
    "MathVision": _mathvision,
    "MathVision_MINI": _mathvision,
    "MIA-Bench": _mia_bench,
}
