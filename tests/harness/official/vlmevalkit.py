"""Child process: VLMEvalKit builds each data set, its prompts, and scores given answers."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

from tests.harness.made_up import reply
from unibench._compat import repair_torchvision


class Judge(BaseHTTPRequestHandler):
    """An OpenAI-compatible server whose verdict depends on the answer alone."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        content = asked["messages"][-1]["content"]
        text = (
            content
            if isinstance(content, str)
            else "".join(part.get("text", "") for part in content)
        )
        message = {"role": "assistant", "content": reply(text)}
        choice = {"index": 0, "finish_reason": "stop", "message": message}
        usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
        body = json.dumps(
            {
                "id": "0",
                "object": "chat.completion",
                "created": 0,
                "model": "stand-in",
                "choices": [choice],
                "usage": usage,
            }
        )
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_: object) -> None:
        """Nothing on stderr."""


def main(path: Path) -> None:
    job = json.loads(path.read_text())
    form = job["form"]
    os.environ |= {"LMUData": job["folder"], "PRED_FORMAT": form, "HF_HUB_OFFLINE": "1"}
    server = HTTPServer(("127.0.0.1", 0), Judge)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    os.environ |= {
        "OPENAI_API_BASE": f"http://127.0.0.1:{server.server_port}/v1/chat/completions",
        "OPENAI_API_KEY": "none",
    }
    repair_torchvision()
    scores, prompts = {}, {}
    for name, answers in job["answers"].items():
        scores[name], prompts[name] = _evaluate(
            name, answers, Path(job["work"]), Path(job["folder"]), form
        )
    (path.parent / "result.json").write_text(json.dumps({"scores": scores, "prompts": prompts}))


def _evaluate(
    name: str, answers: list[dict[str, str]], work: Path, folder: Path, form: str
) -> tuple[list[dict[str, float]], dict[str, str]]:
    from vlmeval.dataset import DATASET_CLASSES, build_dataset  # after the environment is set
    from vlmeval.smp import dump

    digest = hashlib.md5((folder / f"{name}.tsv").read_bytes()).hexdigest()
    for kind in DATASET_CLASSES:
        if name in kind.supported_datasets() and hasattr(kind, "DATASET_MD5"):
            kind.DATASET_MD5 = {**kind.DATASET_MD5, name: digest}
    dataset = build_dataset(name)
    lines = [dataset.data.iloc[number] for number in range(len(dataset.data))]
    prompts = {str(line["index"]): _text(dataset.build_prompt(line)) for line in lines}
    scores = []
    for number, given in enumerate(answers):
        table = dataset.data.drop(columns="image").assign(
            prediction=[given[str(line["index"])] for line in lines]
        )
        file = work / f"set{number}_{name}.{form}"
        dump(table, str(file))
        judged = name in ("MathVista_MINI", "MathVision", "MathVision_MINI", "MIA-Bench")
        scores.append(
            flat(
                dataset.evaluate(
                    str(file), model="gpt-4o-mini" if judged else "exact_matching", nproc=2
                )
            )
        )
    return scores, prompts


def _text(message: list[dict[str, str]]) -> str:
    return "".join(part["value"] if part["type"] == "text" else "<image>" for part in message)


def flat(result: Any) -> dict[str, float]:
    """Numbers by path: a frame of one row by column, one of several rows by its first column too."""
    if isinstance(result, dict):
        nested = {
            str(key): flat(value)
            for key, value in result.items()
            if isinstance(value, (dict, list, int, float))
        }
        return {
            f"{key}.{rest}".rstrip("."): number
            for key, part in nested.items()
            for rest, number in part.items()
        }
    if isinstance(result, list):
        return {str(place): float(value) for place, value in enumerate(result)}
    if isinstance(result, (int, float)):
        return {"": float(result)}
    first, *others = result.columns
    if len(result) == 1:
        return {
            str(column): float(result[column].iloc[0])
            for column in result.columns
            if _is_number(result[column].iloc[0])
        }
    return {
        f"{row[first]}.{column}": float(row[column])
        for row in result.to_dict("records")
        for column in others
        if _is_number(row[column])
    }


def _is_number(value: Any) -> bool:
    return hasattr(value, "__float__") and not isinstance(value, str)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
