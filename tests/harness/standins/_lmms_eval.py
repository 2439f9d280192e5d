"""Data of official lmms-eval tasks, with the published columns and our pictures.

Names and columns: lmms-eval 0.7.3, ``lmms_eval/tasks/<folder>/*.yaml`` (split) and what
``utils.py`` beside it reads of a document.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import datasets

from tests.harness.standins import _lmms_choice as choice
from tests.harness.standins import _lmms_open as open_ended
from tests.harness.standins._lmms_columns import Row
from tests.harness.standins._questions import attributes, counts, readings
from tests.harness.standins._videos import write_videomme, write_vinoground

GQA_IMAGES = (
    "lmms-lab-encoder__GQA__testdev_balanced_images"  # gqa keeps questions and pictures apart
)


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
    """Write ``<folder>/<name>/data/<split>-00000-of-00001.parquet`` and whatever else the task
    reads.
    """
    standin = LMMS_EVAL[name]
    rows = standin.rows(size)
    if name == "gqa":
        _save(
            [{"id": row["imageId"], "image": row.pop("image")} for row in rows],
            folder / GQA_IMAGES,
            "testdev",
            ("image",),
        )
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
        table = table.cast_column(
            column, datasets.Sequence(feature) if isinstance(rows[0][column], list) else feature
        )
    path = folder / "data" / f"{split}-00000-of-00001.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    table.to_parquet(path)
    return path


by_one = partial(open_ended.answered, people=1)
by_ten = partial(open_ended.answered, people=open_ended.PEOPLE)
LMMS_EVAL: dict[str, Standin] = {
    "mme": Standin("test", choice.mme),
    "pope": Standin("test", choice.pope),
    "pope_adv": Standin("adversarial", choice.pope),
    "hallusion_bench_image": Standin("image", choice.hallusion),
    "mmbench_en_dev_static": Standin("dev", choice.mmbench),
    "mmbench_cn_dev": Standin("dev", partial(choice.mmbench, before="看图回答：")),
    "mmstar": Standin("val", choice.mmstar),
    "scienceqa_img": Standin("test", choice.scienceqa),
    "scienceqa": Standin("test", choice.scienceqa_full),
    "ocrbench": Standin("test", open_ended.ocrbench),
    "ai2d": Standin("test", choice.ai2d),
    "chartqa": Standin("test", open_ended.chartqa),
    "docvqa_val": Standin("validation", partial(by_one, questions=readings, questionId=str)),
    "infovqa_val": Standin("validation", partial(by_one, questions=counts, questionId=str)),
    "textvqa_val": Standin(
        "validation",
        partial(
            by_ten, questions=readings, question_id=int, image_id=str, ocr_tokens=lambda i: ["x"]
        ),
    ),
    "ok_vqa_val2014": Standin("val2014", partial(by_ten, questions=attributes, question_id=str)),
    "vizwiz_vqa_val": Standin(
        "val", partial(by_ten, questions=attributes, question_id=str, category=lambda i: "other")
    ),
    "vqav2_val": Standin("validation", open_ended.vqav2),
    "gqa": Standin("testdev", open_ended.gqa),
    "seedbench": Standin("test", choice.seedbench),
    "seedbench_2_plus": Standin("test", choice.seedbench_2_plus),
    "mmmu_val": Standin("validation", choice.mmmu, ("image_1",)),
    "realworldqa": Standin("test", choice.realworldqa),
    **dict.fromkeys(("cv_bench", "cv_bench_2d", "cv_bench_3d"), Standin("test", choice.cv_bench)),
    **dict.fromkeys(
        ("mmerealworld", "mmerealworld_lite"), Standin("train", choice.mme_realworld, ())
    ),
    "mmmu_pro_standard": Standin("test", choice.mmmu_pro, ("image_1",)),
    "mmmu_pro_vision": Standin("test", partial(choice.mmmu_pro, seen=True)),
    "mmvp": Standin("train", choice.mmvp),
    "muirbench": Standin("test", choice.muirbench, ("image_list",)),
    **dict.fromkeys(
        ("refcoco_bbox_rec_val", "refcoco+_bbox_rec_val", "refcocog_bbox_rec_val"),
        Standin("val", open_ended.refcoco),
    ),
    "screenspot_v2": Standin("test", open_ended.screenspot),
    "mathvision_test": Standin("test", open_ended.mathvision, ("decoded_image",)),
    "mathvista_testmini_format": Standin("testmini", open_ended.mathvista, ("decoded_image",)),
    "mia_bench": Standin("test", open_ended.mia_bench),
    "coco2017_cap_val": Standin("val", open_ended.coco),
    "nocaps_val": Standin("validation", open_ended.nocaps),
    "flickr30k_test": Standin("test", open_ended.flickr30k),
    "videomme": Standin("test", open_ended.videomme),
    "vinoground": Standin("lmmseval", open_ended.vinoground),
}
