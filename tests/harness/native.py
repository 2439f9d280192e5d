"""A harness's own command on stand-ins, on a machine without a GPU.

    python -m tests.harness.native vlmevalkit Qwen2.5-VL-7B-Instruct <model> <tables> POPE <out> '{}'

Put in its place are what :func:`tests.harness.shims.on_cpu` says, the data, and the checkpoint and
further arguments of the entry.
"""

from __future__ import annotations

import json
import os
import runpy
import sys
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

from unibench._compat import repair_torchvision

repair_torchvision()

from tests.harness.shims import on_cpu


def vlmevalkit(entry: str, model: Path, tables: Path, name: str, out: Path, given: Any) -> None:
    """``python run.py --data <name> --model <entry>``."""
    os.environ["LMUData"] = str(tables)  # noqa: SIM112
    from vlmeval import run
    from vlmeval.config import supported_VLM

    from unibench.harness.child.vlmevalkit import accepted, md5

    built = supported_VLM[entry]
    hub = out / "hub" / built.keywords["model_path"]  # classes know variants by it
    hub.parent.mkdir(parents=True)
    hub.symlink_to(model.absolute())
    supported_VLM["own"] = partial(built, model_path=str(hub), **given)
    words = ["--data", name, "--model", "own", "--work-dir", str(out), "--judge", "exact_matching"]
    with ExitStack() as stack:
        stack.enter_context(on_cpu())
        for module in ("qwen2_vl", "qwen3_vl"):
            place = f"vlmeval.vlm.{module}.model.get_gpu_memory"
            stack.enter_context(patch(place, lambda: [1]))
        stack.enter_context(accepted(name, md5(tables / f"{name}.tsv")))
        stack.enter_context(patch.object(sys, "argv", ["run.py", *words]))
        run.main()


def lmms_eval(entry: str, model: Path, tables: Path, task: str, out: Path, given: Any) -> None:
    """``python -m lmms_eval --model <entry> --tasks <name>``."""
    import datasets
    from lmms_eval.tasks import TaskManager

    own = TaskManager()._get_config(task)
    published = (own["dataset_path"], own.get("dataset_name"))
    load = datasets.load_dataset

    def load_dataset(path: str, name: str | None = None, **options: Any) -> Any:
        if (path, name) != published:
            return load(path, name, **options)
        kept = {key: value for key, value in options.items() if key not in ("token", "revision")}
        return load(str(tables / task), **kept)

    settings = {"pretrained": str(model), "device_map": "cpu", **given}
    arguments = ",".join(f"{key}={value}" for key, value in settings.items())
    words = ["--model", entry, "--model_args", arguments, "--tasks", task, "--batch_size", "1"]
    words += ["--device", "cpu", "--output_path", str(out), "--log_samples"]
    with (
        on_cpu(),
        patch.object(datasets, "load_dataset", load_dataset),
        patch.object(sys, "argv", ["lmms_eval", *words]),
    ):
        runpy.run_module("lmms_eval", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    harness, entry, model, tables, name, out, given = sys.argv[1:]
    os.environ |= {"HF_HUB_OFFLINE": "1", "OPENAI_API_KEY": "none", "HF_HOME": f"{out}/hf"}
    run_it = {"vlmevalkit": vlmevalkit, "lmms_eval": lmms_eval}[harness]
    run_it(entry, Path(model), Path(tables), name, Path(out), json.loads(given))
