"""Child process: lmms-eval builds each task, its prompts, and scores given answers."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from unibench._compat import repair_torchvision

VIDEO = ("videomme", "vinoground")


def main(path: Path) -> None:
    job = json.loads(path.read_text())
    folder, work = Path(job["folder"]), Path(job["work"])
    home = work / "hf_home"
    home.mkdir()
    for name in VIDEO:
        (home / name).symlink_to(folder / name / "hf_home" / name)
    os.environ |= {
        "HF_HOME": str(home),
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1",
        "HF_EVALUATE_OFFLINE": "1",
    }
    os.environ |= {"OPENAI_API_URL": "http://127.0.0.1:9/none", "LMMS_EVAL_LOG_LEVEL": "ERROR"}
    os.chdir(work)  # tasks leave files for submission in the current folder
    repair_torchvision()
    result = _evaluate_all(folder, job["answers"])
    (path.parent / "result.json").write_text(json.dumps(result))


def _evaluate_all(folder: Path, answers: dict[str, list[dict[str, str]]]) -> dict[str, Any]:
    _redirect_gqa(folder)
    from lmms_eval.api.model import lmms  # after the environment is set
    from lmms_eval.evaluator import simple_evaluate
    from lmms_eval.tasks import TaskManager

    class MadeUp(lmms):  # type: ignore[misc]
        """Gives the answers of the job."""

        is_simple = False

        def __init__(self, given: dict[str, str]) -> None:
            super().__init__()
            self.given, self.prompts = given, dict[str, str]()

        def generate_until(self, requests: list[Any]) -> list[str]:
            return [self._answer(*request.args) for request in requests]

        def _answer(
            self, _: str, to_messages: Any, __: object, number: int, task: str, split: str
        ) -> str:
            messages = to_messages(self.task_dict[task][split][number])
            parts = [
                part.get("text", "<image>") for message in messages for part in message["content"]
            ]
            self.prompts[str(number)] = "".join(parts)
            return self.given[str(number)]

        def loglikelihood(self, requests: list[Any]) -> list[tuple[float, bool]]:
            raise NotImplementedError

        def generate_until_multi_round(self, requests: list[Any]) -> list[str]:
            raise NotImplementedError

    manager = TaskManager()
    scores: dict[str, list[dict[str, float]]] = {}
    prompts: dict[str, dict[str, str]] = {}
    for name, given in answers.items():
        options = {"video": True, "cache_dir": name} if name in VIDEO else {}
        config = {
            "task": name,
            "dataset_path": str(folder / name),
            "dataset_name": None,
            "dataset_kwargs": options,
        }
        task = manager._load_individual_task_or_group(config, task_type="chat")[name]
        scores[name] = []
        for model in map(MadeUp, given):
            forget_points(task)
            found = simple_evaluate(
                model=model,
                tasks=[task],
                task_manager=manager,
                batch_size=1,
                bootstrap_iters=0,
                log_samples=False,
            )
            scores[name].append(flat(found["results"][name]))
            prompts[name] = model.prompts
    return {"scores": scores, "prompts": prompts}


def forget_points(task: Any) -> None:
    """Empty the table to which ocrbench adds the points of every evaluation of a task.

    It is a global of the module that the task's file was read with, of which `sys.modules` knows
    nothing: only the task's functions lead to it.
    """
    for aggregate in task.aggregation().values():
        points = getattr(aggregate, "__globals__", {}).get("OCRBench_score", {})
        points |= dict.fromkeys(points, 0)


def _redirect_gqa(folder: Path) -> None:
    """gqa loads its pictures itself."""
    import datasets

    load = datasets.load_dataset

    def here(path: str, name: str | None = None, **options: Any) -> Any:
        if path == "lmms-lab-encoder/GQA":
            return load(str(folder / f"lmms-lab-encoder__GQA__{name}"), split=options["split"])
        return load(path, name, **options)

    datasets.load_dataset = here


def flat(result: dict[str, Any]) -> dict[str, float]:
    """Numbers by metric, without the filter's name."""
    found = {}
    for key, value in result.items():
        metric = key.partition(",")[0]
        if isinstance(value, (list, tuple)):
            found |= {f"{metric}.{place}": float(part) for place, part in enumerate(value)}
        elif isinstance(value, (int, float)) and not metric.endswith("_stderr"):
            found[metric] = float(value)
    return found


if __name__ == "__main__":
    main(Path(sys.argv[1]))
