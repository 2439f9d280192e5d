"""Caption metrics by pycocoevalcap, the library of their authors, without a harness around it."""

from __future__ import annotations

from collections.abc import Sequence

from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.meteor.meteor import Meteor
from pycocoevalcap.rouge.rouge import Rouge
from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

Captions = dict[int, list[str]]


def plain(captions: Sequence[Sequence[str]]) -> Captions:
    """By picture, as they are: the metrics split at blanks."""
    return {number: list(texts) for number, texts in enumerate(captions)}


def penn(captions: Sequence[Sequence[str]]) -> Captions:
    """By picture, split by the Penn Treebank tokenizer, which needs Java."""
    tokens: Captions = PTBTokenizer().tokenize(
        {n: [{"caption": text} for text in texts] for n, texts in enumerate(captions)}
    )
    return tokens


def cider(truths: Captions, answers: Captions) -> dict[str, float]:
    """CIDEr, ROUGE-L and BLEU-1 to 4, as shares."""
    bleu, _ = Bleu(4).compute_score(truths, answers, verbose=0)
    rouge, _ = Rouge().compute_score(truths, answers)
    score, _ = Cider().compute_score(truths, answers)
    return {"CIDEr": float(score), "ROUGE_L": float(rouge)} | {
        f"Bleu_{n}": value for n, value in enumerate(bleu, 1)
    }


def meteor(truths: Captions, answers: Captions) -> float:
    """METEOR, by its authors' Java program."""
    score, _ = Meteor().compute_score(truths, answers)
    return float(score)
