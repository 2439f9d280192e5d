"""Words that a model does not read as text. In a question their meaning is lost, and they take
effect: a placeholder stands for a picture, an end token ends the turn.
"""

from __future__ import annotations

from typing import Any

PLACEHOLDERS = ("image_token", "video_token", "fake_image_token", "global_image_token")


def control_words(processor: Any) -> frozenset[str]:
    """The placeholders of a processor and the special tokens of its tokenizer."""
    tokenizer = getattr(processor, "tokenizer", None)
    added = getattr(tokenizer, "added_tokens_decoder", {})
    words = {str(token) for token in added.values() if token.special}
    words |= set(getattr(tokenizer, "all_special_tokens", ()))
    words |= {getattr(processor, name, None) or "" for name in PLACEHOLDERS}
    return frozenset(word for word in words if word.strip())


def control_word_in(text: str, words: frozenset[str]) -> str | None:
    """The longest of the words that a text holds; None where it holds none."""
    # one word may contain another, and the message names the whole
    held = [word for word in words if word in text]
    return max(held, key=len, default=None)


def reads_as_its_own(model: str, word: str) -> str:
    """Why a question with such a word is refused."""
    return (
        f"the question holds {word!r}, which {model} does not read as text but as a word of its own"
        " (a placeholder of a picture, the end of a turn); write it otherwise, for example with"
        " spaces"
    )
