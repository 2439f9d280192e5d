"""Tokenizers: every word of the benchmarks is one token, every character on a sign too.

The families share one vocabulary, so that a row of the shared decoder's embeddings is the same word
in each of them; they differ in which special tokens they use, and for what.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache

import numpy as np
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from training._aids import EASY, aid
from training._listings import HEADINGS
from unibench.tasks import synthscene, synthvideo
from unibench.tasks.synthvqa._palette import COLORS, GROUNDS, PLATES, PLURALS, SHAPES
from unibench.tasks.synthvqa._prompts import FORMS, STEMS
from unibench.tasks.synthvqa._questions import ABILITIES, RULES, ask
from unibench.tasks.synthvqa._scene import make_scene

# Digits and capitals one by one, so that what a sign says is never one unit; words with the space
# before them.
_PIECES = r"\p{N}|\p{Lu}(?!\p{Ll})| ?\p{Lu}?\p{Ll}+|\n| ?[^\s\p{L}\p{N}]+|\s+"
# aids whose words the tokenizer is made from
_SPOKEN = ("one", "open", "letter", "glyph", "negated")
SYSTEM = "You are a helpful assistant."
# of all families; their ids are their places
SPECIAL = (
    *("<|endoftext|>", "<|im_start|>", "<|im_end|>"),
    *("<|vision_start|>", "<|vision_end|>", "<|vision_pad|>", "<|image_pad|>", "<|video_pad|>"),
    *("<img>", "</img>", "<IMG_CONTEXT>", "<video>"),
    *("<unk>", "<s>", "</s>", "<pad>", "<image>"),
)

_CHATML = (
    "{% for message in messages %}{% if loop.first and message['role'] != 'system'"
    " %}<|im_start|>system\n"
    + SYSTEM
    + "<|im_end|>\n{% endif %}<|im_start|>{{ message['role'] }}\n{% if message['content'] is string"
    " %}{{ message['content'] }}{% else %}{% for part in message['content'] %}{% if part['type']"
    " == 'image' %}IMAGE{% elif part['type'] == 'video' %}VIDEO{% elif part['type'] == 'text'"
    " %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}<|im_end|>\n{% endfor %}{% if"
    " add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_QWEN = _CHATML.replace("IMAGE", "<|vision_start|><|image_pad|><|vision_end|>").replace(
    "VIDEO", "<|vision_start|><|video_pad|><|vision_end|>"
)
_VICUNA = (
    "{% for message in messages %}{% if message['role'] == 'system' %}{{ message['content'] if"
    " message['content'] is string else message['content'][0]['text'] }} {% else %}{{"
    " message['role'].upper() }}: {% if message['content'] is string %}{{ message['content'] }}{%"
    " else %}{% for part in message['content'] %}{% if part['type'] == 'image' %}<image>\n{% elif"
    " part['type'] == 'text' %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}{% if"
    " message['role'] == 'assistant' %}</s>{% else %} {% endif %}{% endif %}{% endfor %}{% if"
    " add_generation_prompt %}ASSISTANT:{% endif %}"
)


@dataclass(frozen=True)
class Words:
    """A family's conversation form, and what it uses the special tokens for.

    Attributes:
        roles: token by role, as :func:`training._build.build` names them.
        template: Jinja chat template.
        extra: special tokens that the family's processor looks up by name.
    """

    roles: dict[str, str]
    template: str
    extra: dict[str, str] = field(default_factory=dict)


_QWEN_WORDS = Words(
    {
        "eos": "<|im_end|>",
        "pad": "<|endoftext|>",
        "image": "<|image_pad|>",
        "video": "<|video_pad|>",
        "start": "<|vision_start|>",
        "end": "<|vision_end|>",
    },
    _QWEN,
)
WORDS = {
    "qwen2_5_vl": _QWEN_WORDS,
    "qwen3_vl": _QWEN_WORDS,
    "internvl": Words(
        {"eos": "<|im_end|>", "pad": "<|endoftext|>", "image": "<IMG_CONTEXT>", "video": "<video>"},
        _CHATML.replace("IMAGE", "<IMG_CONTEXT>\n").replace("VIDEO", "<video>\n"),
        {
            "start_image_token": "<img>",
            "end_image_token": "</img>",
            "context_image_token": "<IMG_CONTEXT>",
            "video_token": "<video>",
        },
    ),
    "llava": Words(
        {"eos": "</s>", "pad": "<pad>", "bos": "<s>", "image": "<image>"},
        _VICUNA,
        {"image_token": "<image>"},
    ),
}


def _vocabulary() -> list[str]:
    """Words that answers or stems are made of."""
    return [
        *COLORS,
        *SHAPES,
        *PLURALS.values(),
        *PLATES,
        *GROUNDS,
        "objects",
        "signs",
        "sign",
        "Yes",
        "No",
    ]


def _corpus() -> Iterator[str]:
    for word in _vocabulary():
        yield from [f"{word} {word}\n{word}"] * 50
    for forms in FORMS.values():
        yield from [form.replace("{", " {").replace("}", "} ") for form in forms] * 50
    for stems in STEMS.values():
        yield from [*stems] * 50
    yield from [instruction for instruction, _ in RULES.values()] * 50
    yield from [
        f"system\n{SYSTEM}\nuser\nassistant\nUSER: ASSISTANT:",
        "Look at the first image. Look at the second image.",
        "Answer: A. B. C. D. E.",
        "Frame1: Frame2: Frame3: <0.0 seconds> <0.1 seconds>",
        *EASY,
        *HEADINGS.values(),
    ] * 50
    for seed in range(500):
        yield from _of_other_tasks(seed)
    for seed in range(2000):
        scene, rng = make_scene(seed), np.random.default_rng([95, seed])
        asked = [
            *(ask(ability, scene, rng, varied=True) for ability in ABILITIES),
            *(aid(name, scene, rng) for name in _SPOKEN),
        ]
        yield from (
            f"{question.text}\n{question.answer}" for question in asked if question is not None
        )


def _of_other_tasks(seed: int) -> Iterator[str]:
    """What synthscene and synthvideo ask about a seed of the training."""
    shown, clip = synthscene.make_round(seed), synthvideo.make_clip(seed)
    for i in range(4):
        rng = np.random.default_rng([95, seed, i])
        asked = [synthscene.ask(name, shown, rng, varied=True) for name in synthscene.ABILITIES]
        asked += [synthvideo.ask(name, clip, rng, varied=True) for name in synthvideo.ABILITIES]
        for question in asked:
            if question is not None:
                yield f"{question.text}\n{question.answer}"


@cache
def _trained() -> str:
    """The vocabulary, which takes half a minute, as the text of its file."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_PIECES), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=2000,
        min_frequency=40,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_corpus(), trainer)
    return str(tokenizer.to_str())


def make_tokenizer(family: str) -> PreTrainedTokenizerFast:
    """The tokenizer of a family, the same on every run."""
    words = WORDS[family]
    fast = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(_trained()),
        eos_token=words.roles["eos"],
        pad_token=words.roles["pad"],
        bos_token=words.roles.get("bos"),
        extra_special_tokens=words.extra,
        padding_side="left",
        model_max_length=4096,
        clean_up_tokenization_spaces=False,
    )
    fast.chat_template = words.template
    return fast


def role_ids(family: str, tokenizer: PreTrainedTokenizerFast) -> dict[str, int]:
    return {
        role: tokenizer.convert_tokens_to_ids(token) for role, token in WORDS[family].roles.items()
    }


def vocabulary_size(tokenizer: PreTrainedTokenizerFast) -> int:
    """Rounded up to a multiple of 16."""
    return (len(tokenizer) + 15) // 16 * 16
