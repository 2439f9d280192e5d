"""Documents of lmms-eval tasks that ask for yes, no or a letter.

Columns: lmms-eval 0.7.3, what ``utils.py`` of each task's folder reads of a document.
"""

from __future__ import annotations

import base64

from tests.harness.standins._lmms_columns import Row, file_of, row_of
from tests.harness.standins._questions import LETTERS, caption, choices, exists, exists_in_pairs
from tests.harness.standins._vlmevalkit import ABILITIES, MME_CATEGORIES, POPE_CATEGORIES


def mme(size: int) -> list[Row]:
    return [
        row_of(asked, question_id=f"{i // 2}.png", category=MME_CATEGORIES[i // 2 % 3])
        | {"question": f"{asked.text} Please answer yes or no."}
        for i, asked in enumerate(exists_in_pairs(size // 2))
    ]


def pope(size: int) -> list[Row]:
    return [
        row_of(
            asked,
            id=str(i),
            question_id=str(i),
            image_source=str(i),
            category=POPE_CATEGORIES[i % 3],
        )
        | {"answer": asked.answer.lower()}
        for i, asked in enumerate(exists(size))
    ]


def hallusion(size: int) -> list[Row]:
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
            "image": file_of(asked),
        }
        for i, asked in enumerate(exists_in_pairs(size // 2))
    ]


def mmbench(size: int, before: str = "") -> list[Row]:
    rows = []
    for i, asked in enumerate(choices(size // len(LETTERS))):
        for turn in range(len(LETTERS)):
            options = asked.options[turn:] + asked.options[:turn]
            row = row_of(
                asked,
                index=i + turn * 1_000_000,
                hint="nan",
                source="synthvqa",
                comment="nan",
                split="dev",
                category=ABILITIES[i % 2][0],
            )
            row |= dict(zip(LETTERS, options, strict=True))
            row |= {
                "question": before + asked.text,
                "answer": LETTERS[options.index(asked.right)],
                "L2-category": ABILITIES[i % 2][1],
            }
            rows.append(row)
    return rows


def mmstar(size: int) -> list[Row]:
    """The options are part of the question."""
    kinds = (("coarse perception", "image emotion"), ("math", "geometry"))
    return [
        row_of(
            asked,
            index=i,
            category=kinds[i % 2][0],
            l2_category=kinds[i % 2][1],
            meta_info={"source": "synthvqa", "split": "val", "image_path": f"{i}.png"},
        )
        | {
            "question": (
                f"{asked.text} Options:"
                f" {', '.join(f'{letter}: {option}' for letter, option in asked.lettered.items())}"
            )
        }
        for i, asked in enumerate(choices(size))
    ]


def scienceqa(size: int) -> list[Row]:
    empty = dict.fromkeys(
        ("task", "grade", "subject", "topic", "category", "skill", "lecture", "solution"), ""
    )
    return [
        row_of(
            asked, choices=list(asked.options), hint="" if i % 2 else "Look at the image.", **empty
        )
        | {"answer": LETTERS.index(asked.answer)}
        for i, asked in enumerate(choices(size))
    ]


def scienceqa_full(size: int) -> list[Row]:
    """Some questions have no picture: all that is asked is in the hint."""
    rows = scienceqa(size)
    for row in rows[3::4]:
        right = row["choices"][row["answer"]]  # type: ignore[index]
        row |= {"image": None, "hint": f"The answer is {right}."}
    return rows


def ai2d(size: int) -> list[Row]:
    return [
        row_of(asked, options=list(asked.options)) | {"answer": str(LETTERS.index(asked.answer))}
        for asked in choices(size)
    ]


def seedbench(size: int) -> list[Row]:
    return [
        row_of(
            asked,
            question_id=str(i),
            data_id=str(i),
            data_type="image",
            question_type_id=1,
            segment=[0],
        )
        | {"image": [file_of(asked)]}
        | {f"choice_{letter.lower()}": option for letter, option in asked.lettered.items()}
        for i, asked in enumerate(choices(size))
    ]


def seedbench_2_plus(size: int) -> list[Row]:
    return [
        row_of(asked, question_id=str(i), question_image_type=("chart", "map", "web")[i % 3])
        | {f"choice_{letter}": option for letter, option in asked.lettered.items()}
        for i, asked in enumerate(choices(size))
    ]


def mmmu(size: int) -> list[Row]:
    kinds = ("Art", "Physics")
    return [
        {
            "id": f"validation_{kinds[i % 2]}_{i // 2 + 1}",
            "question": f"<image 1> {asked.text}",
            "options": str(list(asked.options)),
            "image_1": file_of(asked),
            "answer": asked.answer,
            "question_type": "multiple-choice",
            "subfield": kinds[i % 2],
        }
        for i, asked in enumerate(choices(size))
    ]


def realworldqa(size: int) -> list[Row]:
    """The options and the request for a letter are part of the question."""
    ending = "Please answer directly with only the letter of the correct option and nothing else."
    return [
        row_of(asked, image_path=f"{i}.png")
        | {
            "question": "\n".join(
                [
                    asked.text,
                    *(f"{letter}. {option}" for letter, option in asked.lettered.items()),
                    ending,
                ]
            )
        }
        for i, asked in enumerate(choices(size))
    ]


def cv_bench(size: int) -> list[Row]:
    """Options and their letters in parentheses are part of the prompt; so is the answer's letter."""
    kinds = (("2D", "ADE20K"), ("2D", "COCO"), ("3D", "Omni3D"))
    rows = []
    for i, asked in enumerate(choices(size)):
        options = "\n".join(f"({letter}) {option}" for letter, option in asked.lettered.items())
        kind, source = kinds[i % 3]
        rows.append(
            {
                "idx": i,
                "type": kind,
                "task": "Count",
                "source": source,
                "image": file_of(asked),
                "question": asked.text,
                "prompt": f"{asked.text} Select from the following choices.\n{options}",
                "choices": list(asked.options),
                "answer": f"({asked.answer})",
            }
        )
    return rows


def mme_realworld(size: int) -> list[Row]:
    """Five options; the picture is a text."""
    return [
        {
            "index": str(i),
            "bytes": base64.b64encode(asked.png).decode(),
            "question": asked.text,
            "multi-choice options": [
                *(f"({letter}) {option}" for letter, option in asked.lettered.items()),
                "(E) The image does not feature it.",
            ],
            "answer": asked.answer,
            "category": ("Perception/Remote Sensing", "Reasoning/Monitoring")[i % 2],
            "l2-category": ("color", "calculate")[i % 2],
        }
        for i, asked in enumerate(choices(size))
    ]


def mmmu_pro(size: int, *, seen: bool = False) -> list[Row]:
    """Ten options, of which the last six are never right.

    Args:
        size: documents.
        seen: whether the question stands in the picture, as in the part of MMMU-Pro for vision.
    """
    rows = []
    for i, asked in enumerate(choices(size)):
        options = [*asked.options, *(f"none of these, for reason {n}" for n in range(1, 7))]
        row: Row = {
            "id": f"test_Art_{i + 1}",
            "options": str(options),
            "answer": asked.answer,
            "subject": ("Art", "Physics")[i % 2],
            "image" if seen else "image_1": file_of(asked),
        }
        rows.append(row if seen else row | {"question": f"<image 1> {asked.text}"})
    return rows


def mmvp(size: int) -> list[Row]:
    """Pairs of one question with its two options the other way round."""
    rows: list[Row] = []
    for asked in choices(size // 2):
        other = next(option for option in asked.options if option != asked.right)
        for options, answer in (((asked.right, other), "(a)"), ((other, asked.right), "(b)")):
            rows.append(
                {
                    "Index": len(rows) + 1,
                    "Question": asked.text,
                    "Options": f"(a) {options[0]} (b) {options[1]}",
                    "Correct Answer": answer,
                    "image": file_of(asked),
                }
            )
    return rows


def muirbench(size: int) -> list[Row]:
    """Two pictures, named where they stand."""
    return [
        {
            "idx": str(i),
            "task": ("Counting", "Ordering")[i % 2],
            "image_relation": "Independent",
            "image_type": "Others",
            "question": f"<image><image>{asked.text}",
            "options": list(asked.options),
            "answer": asked.answer,
            "image_list": [file_of(asked), file_of(asked)],
        }
        for i, asked in enumerate(choices(size))
    ]
