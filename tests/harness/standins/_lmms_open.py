"""Documents of lmms-eval tasks that ask for a text, a number, a caption, or about a clip.

Columns: lmms-eval 0.7.3, what ``utils.py`` of each task's folder reads of a document.
"""

from __future__ import annotations

from collections.abc import Callable

from tests.harness.standins._lmms_columns import Row, file_of, row_of
from tests.harness.standins._questions import (
    Asked,
    attributes,
    caption,
    choices,
    counts,
    exists,
    readings,
)
from tests.harness.standins._vlmevalkit import HINT, OCR_CATEGORIES

PEOPLE = 10
CONFUSED = 2  # of the ten who answered: the score of a right answer needs three others


def ocrbench(size: int) -> list[Row]:
    return [
        row_of(
            asked,
            dataset="HME100k" if i % 3 == 2 else "IIIT5K",
            question_type=OCR_CATEGORIES[i % 3],
        )
        | {"answer": [asked.answer]}
        for i, asked in enumerate(readings(size))
    ]


def chartqa(size: int) -> list[Row]:
    return [
        row_of(asked, type=("human_test", "augmented_test")[i % 2])
        for i, asked in enumerate(counts(size))
    ]


def answered(
    size: int,
    questions: Callable[[int], list[Asked]],
    people: int,
    **columns: Callable[[int], object],
) -> list[Row]:
    """A list of accepted answers; with ten people, two of them give another one."""
    rows = []
    for i, asked in enumerate(questions(size)):
        answers = (
            [asked.answer] * (people - CONFUSED) + ["unanswerable"] * CONFUSED
            if people > 1
            else [asked.answer]
        )
        rows.append(
            {
                "image": file_of(asked),
                "question": asked.text,
                "answers": answers,
                **{name: value(i) for name, value in columns.items()},
            }
        )
    return rows


def vqav2(size: int) -> list[Row]:
    rows = answered(
        size,
        attributes,
        PEOPLE,
        question_id=int,
        image_id=int,
        question_type=lambda i: "what",
        answer_type=lambda i: "other",
    )
    for row in rows:
        answers: list[str] = row["answers"]  # type: ignore[assignment]
        row["multiple_choice_answer"] = answers[0]
        row["answers"] = [
            {"answer": answer, "answer_confidence": "yes", "answer_id": i + 1}
            for i, answer in enumerate(answers)
        ]
    return rows


def gqa(size: int) -> list[Row]:
    return [
        row_of(asked, id=str(i), imageId=f"n{i}", fullAnswer=f"It is {asked.answer}.")
        for i, asked in enumerate(attributes(size))
    ]


def mathvision(size: int) -> list[Row]:
    asked_of = [*counts(size // 2), *choices(size - size // 2)]
    return [
        {
            "id": str(i),
            "question": asked.text,
            "options": list(asked.options),
            "image": f"images/{i}.png",
            "decoded_image": file_of(asked),
            "answer": asked.answer,
            "level": 1,
            "subject": "counting" if not asked.options else "metric geometry - area",
        }
        for i, asked in enumerate(asked_of)
    ]


def mathvista(size: int) -> list[Row]:
    rows = []
    for i, asked in enumerate([*counts(size // 2), *choices(size - size // 2)]):
        metadata = dict.fromkeys(
            ("category", "context", "grade", "language", "source", "task"), "general"
        ) | {
            "split": "testmini",
            "skills": ["counting"],
        }
        rows.append(
            {
                "pid": str(i + 1),
                "question": asked.text,
                "decoded_image": file_of(asked),
                "choices": list(asked.options) or None,
                "unit": None,
                "precision": None,
                "answer": asked.right,
                "question_type": "multi_choice" if asked.options else "free_form",
                "answer_type": "text" if asked.options else "integer",
                "metadata": metadata,
                "query": HINT + asked.text,
            }
        )
    return rows


def mia_bench(size: int) -> list[Row]:
    return [
        {
            "image": file_of(asked),
            "instruction": f"{asked.text} Answer in capital letters.",
            "type": "basic",
            "num_of_component": 2,
            "components": [asked.text, "Answer in capital letters."],
            "component_weight": [6, 4],
            "component_type": ["describe", "format"],
        }
        for asked in attributes(size)
    ]


def _captions(asked: Asked) -> list[str]:
    return [caption(asked.scene), caption(asked.scene) + " ground"]


def coco(size: int) -> list[Row]:
    return [
        {
            "question_id": f"{i + 1:012d}.jpg",
            "id": i + 1,
            "image": file_of(asked),
            "question": "",
            "answer": _captions(asked),
        }
        for i, asked in enumerate(exists(size))
    ]


def nocaps(size: int) -> list[Row]:
    return [
        {"image_id": i + 1, "image": file_of(asked), "annotations_captions": _captions(asked)}
        for i, asked in enumerate(exists(size))
    ]


def flickr30k(size: int) -> list[Row]:
    return [
        {"img_id": str(i + 1), "image": file_of(asked), "caption": _captions(asked)}
        for i, asked in enumerate(exists(size))
    ]


def refcoco(size: int) -> list[Row]:
    """Boxes in pixels: left, top, width, height; two expressions for each."""
    rows = []
    for i, asked in enumerate(exists(size // 2)):
        thing = max(asked.scene.things, key=lambda one: one.radius)
        corner = [float(place - thing.radius) for place in (thing.x, thing.y)]
        rows.append(
            {
                "question_id": str(i),
                "image": file_of(asked),
                "answer": [f"the {thing.name}", f"a {thing.name}"],
                "bbox": [*corner, 2.0 * thing.radius, 2.0 * thing.radius],
            }
        )
    return rows


def screenspot(size: int) -> list[Row]:
    """Boxes in pixels: left, top, right, bottom."""
    rows = []
    for i, asked in enumerate(exists(size)):
        thing, side = max(asked.scene.things, key=lambda one: one.radius), 336
        low = [float(place - thing.radius) for place in (thing.x, thing.y)]
        high = [float(place + thing.radius) for place in (thing.x, thing.y)]
        rows.append(
            {
                "image": file_of(asked),
                "instruction": f"open the {thing.name}",
                "bbox": [*low, *high],
                "image_width": side,
                "image_height": side,
                "data_type": ("text", "icon")[i % 2],
            }
        )
    return rows


def videomme(size: int) -> list[Row]:
    return [
        {
            "video_id": f"{i + 1:03d}",
            "duration": ("short", "medium", "long")[i % 3],
            "domain": "Knowledge",
            "sub_category": "Astronomy",
            "videoID": f"clip{i}",
            "question_id": f"{i + 1:03d}-1",
            "task_type": "Counting Problem",
            "question": asked.text,
            "options": [f"{letter}. {option}" for letter, option in asked.lettered.items()],
            "answer": asked.answer,
            "frames": [asked.picture],
        }
        for i, asked in enumerate(choices(size))
    ]


def vinoground(size: int) -> list[Row]:
    """Whatever ``size`` is: the aggregation is over exactly 500 pairs of clips, two questions each
    way.
    """
    asks = [
        (i, sign, way) for i in range(500) for sign in ("pos", "neg") for way in ("text", "video")
    ]
    return [
        {
            "index": f"{i}_{sign}_{way}",
            "major": "object",
            "minor": "spatial;contextual" if i % 2 else None,
        }
        for i, sign, way in asks
    ]
