"""Data of official lmms-eval tasks, with the published columns and our pictures.

Names and columns: lmms-eval 0.7.3, ``lmms_eval/tasks/<folder>/*.yaml`` (split) and what ``utils.py`` beside
it reads of a document.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import datasets

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
)
from tests.harness.standins._videos import write_videomme, write_vinoground
from tests.harness.standins._vlmevalkit import ABILITIES, HINT, MME_CATEGORIES, OCR_CATEGORIES, POPE_CATEGORIES

Row = dict[str, object]
GQA_IMAGES = "lmms-lab-encoder__GQA__testdev_balanced_images"  # gqa keeps questions and pictures apart
PEOPLE = 10
CONFUSED = 2  # of the ten who answered: the score of a right answer needs three others


@dataclass(frozen=True)
class Standin:
    """One task's data.

    Attributes:
        split: the one that the task asks.
        rows: ``size`` documents.
        images: columns with pictures.
    """

    split: str
    rows: Callable[[int], list[Row]]
    images: tuple[str, ...] = ("image",)


def write(name: str, folder: Path, size: int) -> Path:
    """Write ``<folder>/<name>/data/<split>-00000-of-00001.parquet`` and whatever else the task reads."""
    standin = LMMS_EVAL[name]
    rows = standin.rows(size)
    if name == "gqa":
        _save([{"id": row["imageId"], "image": row.pop("image")} for row in rows], folder / GQA_IMAGES, "testdev", ("image",))
    if name == "videomme":
        write_videomme(rows, folder / name / "hf_home" / "videomme")
    if name == "vinoground":
        write_vinoground(rows, folder / name / "hf_home" / "vinoground")
    return _save(rows, folder / name, standin.split, standin.images)


def _save(rows: list[Row], folder: Path, split: str, images: Sequence[str]) -> Path:
    datasets.disable_progress_bars()
    table = datasets.Dataset.from_list(rows)
    for column in set(images) & set(table.column_names):
        feature = datasets.Image()
        table = table.cast_column(column, datasets.Sequence(feature) if isinstance(rows[0][column], list) else feature)
    path = folder / "data" / f"{split}-00000-of-00001.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    table.to_parquet(path)
    return path


def _file(asked: Asked) -> Row:
    """A picture as a data set's column of pictures holds it."""
    return {"bytes": asked.png, "path": None}


def _row(asked: Asked, **more: object) -> Row:
    return {"image": _file(asked), "question": asked.text, "answer": asked.answer, **more}


def _mme(size: int) -> list[Row]:
    return [
        _row(asked, question_id=f"{i // 2}.png", category=MME_CATEGORIES[i // 2 % 3])
        | {"question": f"{asked.text} Please answer yes or no."}
        for i, asked in enumerate(exists_in_pairs(size // 2))
    ]


def _pope(size: int) -> list[Row]:
    return [
        _row(asked, id=str(i), question_id=str(i), image_source=str(i), category=POPE_CATEGORIES[i % 3]) | {"answer": asked.answer.lower()}
        for i, asked in enumerate(exists(size))
    ]


def _hallusion(size: int) -> list[Row]:
    return [
        {
            "category": "VD",
            "subcategory": "figure",
            "visual_input": "1",
            "set_id": str(i // 4),
            "figure_id": str(i // 2 % 2),
            "question_id": str(i % 2),
            "question": asked.text,
            "gt_answer": str(int(asked.answer == "Yes")),
            "gt_answer_details": f"{asked.answer}: {caption(asked.scene)}.",
            "image": _file(asked),
        }
        for i, asked in enumerate(exists_in_pairs(size // 2))
    ]


def _mmbench(size: int, before: str = "", number: int = 2) -> list[Row]:
    rows = []
    for i, asked in enumerate(choices(size // number, number)):
        for turn in range(number):
            options = asked.options[turn:] + asked.options[:turn]
            row = _row(
                asked, index=i + turn * 1_000_000, hint="nan", source="synthvqa", comment="nan", split="dev", category=ABILITIES[i % 2][0]
            )
            row |= {letter: options[place] if place < number else "nan" for place, letter in enumerate(LETTERS)}
            row |= {"question": before + asked.text, "answer": LETTERS[options.index(asked.right)], "L2-category": ABILITIES[i % 2][1]}
            rows.append(row)
    return rows


def _mmstar(size: int) -> list[Row]:
    """The options are part of the question."""
    kinds = (("coarse perception", "image emotion"), ("math", "geometry"))
    return [
        _row(
            asked,
            index=i,
            category=kinds[i % 2][0],
            l2_category=kinds[i % 2][1],
            meta_info={"source": "synthvqa", "split": "val", "image_path": f"{i}.png"},
        )
        | {
            "question": f"{asked.text} Options: {', '.join(f'{letter}: {option}' for letter, option in zip(LETTERS, asked.options, strict=True))}"
        }
        for i, asked in enumerate(choices(size))
    ]


def _scienceqa(size: int) -> list[Row]:
    empty = dict.fromkeys(("task", "grade", "subject", "topic", "category", "skill", "lecture", "solution"), "")
    return [
        _row(asked, choices=list(asked.options), hint="" if i % 2 else "Look at the image.", **empty)
        | {"answer": LETTERS.index(asked.answer)}
        for i, asked in enumerate(choices(size))
    ]


def _scienceqa_full(size: int) -> list[Row]:
    """Some questions have no picture: all that is asked is in the hint."""
    rows = _scienceqa(size)
    for row in rows[3::4]:
        right = row["choices"][row["answer"]]  # type: ignore[index]
        row |= {"image": None, "hint": f"The answer is {right}."}
    return rows


def _ocrbench(size: int) -> list[Row]:
    return [
        _row(asked, dataset="HME100k" if i % 3 == 2 else "IIIT5K", question_type=OCR_CATEGORIES[i % 3]) | {"answer": [asked.answer]}
        for i, asked in enumerate(readings(size))
    ]


def _ai2d(size: int) -> list[Row]:
    return [_row(asked, options=list(asked.options)) | {"answer": str(LETTERS.index(asked.answer))} for asked in choices(size)]


def _chartqa(size: int) -> list[Row]:
    return [_row(asked, type=("human_test", "augmented_test")[i % 2]) for i, asked in enumerate(counts(size))]


def _answered(size: int, questions: Callable[[int], list[Asked]], people: int, **columns: Callable[[int], object]) -> list[Row]:
    """A list of accepted answers; with ten people, two of them give another one."""
    rows = []
    for i, asked in enumerate(questions(size)):
        answers = [asked.answer] * (people - CONFUSED) + ["unanswerable"] * CONFUSED if people > 1 else [asked.answer]
        rows.append(
            {"image": _file(asked), "question": asked.text, "answers": answers, **{name: value(i) for name, value in columns.items()}}
        )
    return rows


def _vqav2(size: int) -> list[Row]:
    rows = _answered(size, attributes, PEOPLE, question_id=int, image_id=int, question_type=lambda i: "what", answer_type=lambda i: "other")
    for row in rows:
        answers: list[str] = row["answers"]  # type: ignore[assignment]
        row["multiple_choice_answer"] = answers[0]
        row["answers"] = [{"answer": answer, "answer_confidence": "yes", "answer_id": i + 1} for i, answer in enumerate(answers)]
    return rows


def _gqa(size: int) -> list[Row]:
    return [_row(asked, id=str(i), imageId=f"n{i}", fullAnswer=f"It is {asked.answer}.") for i, asked in enumerate(attributes(size))]


def _seedbench(size: int) -> list[Row]:
    return [
        _row(asked, question_id=str(i), data_id=str(i), data_type="image", question_type_id=1, segment=[0])
        | {"image": [_file(asked)]}
        | {f"choice_{letter.lower()}": option for letter, option in zip(LETTERS, asked.options, strict=True)}
        for i, asked in enumerate(choices(size))
    ]


def _seedbench_2_plus(size: int) -> list[Row]:
    return [
        _row(asked, question_id=str(i), question_image_type=("chart", "map", "web")[i % 3])
        | {f"choice_{letter}": option for letter, option in zip(LETTERS, asked.options, strict=True)}
        for i, asked in enumerate(choices(size))
    ]


def _mmmu(size: int) -> list[Row]:
    kinds = ("Art", "Physics")
    return [
        {
            "id": f"validation_{kinds[i % 2]}_{i // 2 + 1}",
            "question": f"<image 1> {asked.text}",
            "options": str(list(asked.options)),
            "image_1": _file(asked),
            "answer": asked.answer,
            "question_type": "multiple-choice",
            "subfield": kinds[i % 2],
        }
        for i, asked in enumerate(choices(size))
    ]


def _realworldqa(size: int) -> list[Row]:
    """The options and the request for a letter are part of the question."""
    ending = "Please answer directly with only the letter of the correct option and nothing else."
    return [
        _row(asked, image_path=f"{i}.png")
        | {
            "question": "\n".join(
                [asked.text, *(f"{letter}. {option}" for letter, option in zip(LETTERS, asked.options, strict=True)), ending]
            )
        }
        for i, asked in enumerate(choices(size))
    ]


def _mathvision(size: int) -> list[Row]:
    asked_of = [*counts(size // 2), *choices(size - size // 2)]
    return [
        {
            "id": str(i),
            "question": asked.text,
            "options": list(asked.options),
            "image": f"images/{i}.png",
            "decoded_image": _file(asked),
            "answer": asked.answer,
            "level": 1,
            "subject": "counting" if not asked.options else "metric geometry - area",
        }
        for i, asked in enumerate(asked_of)
    ]


def _mathvista(size: int) -> list[Row]:
    rows = []
    for i, asked in enumerate([*counts(size // 2), *choices(size - size // 2)]):
        metadata = dict.fromkeys(("category", "context", "grade", "language", "source", "task"), "general") | {
            "split": "testmini",
            "skills": ["counting"],
        }
        rows.append(
            {
                "pid": str(i + 1),
                "question": asked.text,
                "decoded_image": _file(asked),
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


def _mia_bench(size: int) -> list[Row]:
    return [
        {
            "image": _file(asked),
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


def _coco(size: int) -> list[Row]:
    return [
        {"question_id": f"{i + 1:012d}.jpg", "id": i + 1, "image": _file(asked), "question": "", "answer": _captions(asked)}
        for i, asked in enumerate(exists(size))
    ]


def _nocaps(size: int) -> list[Row]:
    return [{"image_id": i + 1, "image": _file(asked), "annotations_captions": _captions(asked)} for i, asked in enumerate(exists(size))]


def _flickr30k(size: int) -> list[Row]:
    return [{"img_id": str(i + 1), "image": _file(asked), "caption": _captions(asked)} for i, asked in enumerate(exists(size))]


def _videomme(size: int) -> list[Row]:
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
            "options": [f"{letter}. {option}" for letter, option in zip(LETTERS, asked.options, strict=True)],
            "answer": asked.answer,
            "frames": [asked.picture],
        }
        for i, asked in enumerate(choices(size))
    ]


def _vinoground(size: int) -> list[Row]:
    """Whatever ``size`` is: the aggregation is over exactly 500 pairs of clips, two questions each way."""
    asks = [(i, sign, way) for i in range(500) for sign in ("pos", "neg") for way in ("text", "video")]
    return [{"index": f"{i}_{sign}_{way}", "major": "object", "minor": "spatial;contextual" if i % 2 else None} for i, sign, way in asks]


LMMS_EVAL: dict[str, Standin] = {
    "mme": Standin("test", _mme),
    "pope": Standin("test", _pope),
    "hallusion_bench_image": Standin("image", _hallusion),
    "mmbench_en_dev_static": Standin("dev", _mmbench),
    "mmbench_cn_dev": Standin("dev", partial(_mmbench, before="看图回答：")),
    "mmstar": Standin("val", _mmstar),
    "scienceqa_img": Standin("test", _scienceqa),
    "scienceqa": Standin("test", _scienceqa_full),
    "ocrbench": Standin("test", _ocrbench),
    "ai2d": Standin("test", _ai2d),
    "chartqa": Standin("test", _chartqa),
    "docvqa_val": Standin("validation", partial(_answered, questions=readings, people=1, questionId=str)),
    "infovqa_val": Standin("validation", partial(_answered, questions=counts, people=1, questionId=str)),
    "textvqa_val": Standin(
        "validation", partial(_answered, questions=readings, people=PEOPLE, question_id=int, image_id=str, ocr_tokens=lambda i: ["x"])
    ),
    "ok_vqa_val2014": Standin("val2014", partial(_answered, questions=attributes, people=PEOPLE, question_id=str)),
    "vizwiz_vqa_val": Standin("val", partial(_answered, questions=attributes, people=PEOPLE, question_id=str, category=lambda i: "other")),
    "vqav2_val": Standin("validation", _vqav2),
    "gqa": Standin("testdev", _gqa),
    "seedbench": Standin("test", _seedbench),
    "seedbench_2_plus": Standin("test", _seedbench_2_plus),
    "mmmu_val": Standin("validation", _mmmu, ("image_1",)),
    "realworldqa": Standin("test", _realworldqa),
    "mathvision_test": Standin("test", _mathvision, ("decoded_image",)),
    "mathvista_testmini_format": Standin("testmini", _mathvista, ("decoded_image",)),
    "mia_bench": Standin("test", _mia_bench),
    "coco2017_cap_val": Standin("val", _coco),
    "nocaps_val": Standin("validation", _nocaps),
    "flickr30k_test": Standin("test", _flickr30k),
    "videomme": Standin("test", _videomme),
    "vinoground": Standin("lmmseval", _vinoground),
}
