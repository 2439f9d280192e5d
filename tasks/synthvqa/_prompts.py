"""How questions are put: the words, and the forms that the two harnesses give to official tasks.

The first form of each list is the one the benchmark uses; training draws from all of them, so that
official POPE, MME, MMBench, ScienceQA, OCRBench, TextVQA and ChartQA definitions reach a tiny model
in words it has seen. Sources: lmms-eval 0.7.3 ``tasks/*/`` (post prompts), VLMEvalKit (ms-vlmeval
0.0.20) ``dataset/image_*.py``, ``vlm/qwen2_vl/prompt.py``, ``vlm/internvl/utils.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

T = TypeVar("T")

LETTERS = "ABCDE"
ORDINALS = ("first", "second")

STEMS: dict[str, tuple[str, ...]] = {
    "exists": (
        "Is there {} in the image?",
        "Is there {} in this image?",
        "Is there {} in the picture?",
        "Can you see {} in the image?",
        "Does the image show {}?",
    ),
    "color": (
        "What color is the {}?",
        "What is the color of the {}?",
        "Which color does the {} have?",
    ),
    "shape": (
        "What shape is the {} object?",
        "What is the shape of the {} object?",
        "Which shape is {}?",
    ),
    "ground": (
        "What is the ground made of?",
        "What is the ground in the image?",
        "Which ground is in the picture?",
    ),
    "present": ("Which of these is in the image?", "Which object is in the image?"),
    "reading": (
        "What is written on the {} sign?",
        "What is on the {} sign?",
        "What does the {} sign say?",
        "What is the text on the {} sign?",
        "What is written in the image on the {} sign?",
    ),
    "count": (
        "How many {} are there?",
        "How many {} are in the image?",
        "What is the number of {} in the picture?",
    ),
    "sum": (
        "How many {} and {} are there in total?",
        "How many {} and {} are there together?",
        "What is the sum of the {} and {}?",
    ),
    "less": (
        "If you take away {} of the {}, how many {} are left?",
        "{} of the {} are removed. How many {} are left?",
    ),
    "more": (
        "If you add {} to the {}, how many {} are there?",
        "{} are added to the {}. How many {} are there?",
    ),
}

# POPE, MME, TextVQA (lmms-eval), every VQA set (VLMEvalKit)
_PHRASE = "\nAnswer the question using a single word or phrase."
# VLMEvalKit's Qwen wrapper
_SHORT = "\nPlease try to answer the question with short words or phrases if possible."
_YES_NO = (
    "{}" + _PHRASE,
    "{} Please answer yes or no.",
    "{}\nPlease answer yes or no.",
    "{}\nAnswer the question with Yes or No.",
    "{} Please answer yes or no." + _PHRASE,
    "{}\nAnswer yes or no.",
    "{} Answer:",
    "{}\nYour response must be concise.",
    "{}",
)
_OPEN = (
    "{}",
    "{}" + _PHRASE,
    "{}" + _SHORT,
    "{}\nAnswer the question with a single word.",
    "{}\nProvide a short and direct response.",
    "{}\nAnswer the question directly.",
    "{} Answer:",
)
_INTEGER = (  # MathVista's hint first, then ChartQA's forms
    (
        "Hint: Please answer the question requiring an integer answer and provide the final value,"
        " e.g., 1, 2, 3, at the end.\nQuestion: {}"
    ),
    "{}\nAnswer the question with a single word.",
    "{}" + _PHRASE,
    "{}" + _SHORT,
    "{}\nAnswer the question directly.",
    "{} Answer:",
    "{}",
)
_LETTER = "\nAnswer with the option's letter from the given choices directly."
_SELECT = "Please select the correct answer from the options above."
_CHOICE = (
    "{question}\n{options}"
    + _LETTER,  # ScienceQA (lmms-eval), MMBench and ScienceQA with LLaVA and InternVL (VLMEvalKit)
    "{question} {options}\n"
    + _LETTER,  # MMBench (lmms-eval), without the sentence that announces options
    "{question} There are several options:\n{options}\n" + _LETTER,
    "Question: {question}\nOptions:\n{options}\n" + _SELECT,  # VLMEvalKit's Qwen wrapper
    "Question: {question}\nOptions:\n{options}\n" + _SELECT + " \n",  # VLMEvalKit's default
    # ScienceQA for Qwen (lmms-eval)
    "Context: N/A\nQuestion: {question}\nOptions: {options}\nAnswer:",
    "{question}\n{options}\nAnswer:",
)
_FORMAT = ("{}",)
FORMS = {
    "yes_no": _YES_NO,
    "open": _OPEN,
    "integer": _INTEGER,
    "choice": _CHOICE,
    "format": _FORMAT,
}


def about(which: int, text: str) -> str:
    """A question about one of several pictures."""
    return f"Look at the {ORDINALS[which]} image. {text}"


class Voice:
    """Chooses words and forms: always the first, or any of them.

    Args:
        rng: draws, where the voice is varied.
        varied: for training.
        brief: share of the questions that come in their shortest form, where the voice is varied.
    """

    def __init__(self, rng: np.random.Generator, varied: bool, brief: float = 0.0) -> None:
        self.rng, self.varied, self.brief = rng, varied, brief

    def pick(self, variants: Sequence[T]) -> T:
        return variants[int(self.rng.integers(len(variants)))] if self.varied else variants[0]

    def stem(self, name: str, *words: str) -> str:
        """A question without its form; a leading word is capitalised."""
        text = self.pick(STEMS[name]).format(*words)
        return text[0].upper() + text[1:]

    def form(self, forms: Sequence[str], shortest: str) -> str:
        """One of the forms; the benchmark's own, which is the first, more often than the others."""
        if self.varied and self.rng.random() < self.brief:
            return shortest
        return forms[0] if self.varied and self.rng.random() < 0.2 else self.pick(forms)

    def put(self, form: str, stem: str) -> str:
        """The whole text of a question that is not multiple choice."""
        return self.form(FORMS[form], "{}").format(stem)

    def choose(self, stem: str, options: Sequence[str]) -> str:
        """The whole text of a multiple-choice question."""
        lines = "\n".join(
            f"{letter}. {option}" for letter, option in zip(LETTERS, options, strict=False)
        )
        return self.form(_CHOICE, _CHOICE[-1]).format(question=stem, options=lines)
