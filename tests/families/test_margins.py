"""Where the question of a prompt begins and ends, behind what template and processor write."""

from __future__ import annotations

import pytest
import torch
from PIL import Image

from unibench.compose import compose_cells
from unibench.models import family_of
from unibench.models._reduced import reduced
from unibench.pruning.context import question_of

QUESTION = "what shape is left of the circle ?"
# a model of each family whose processor writes marks around a picture, and of two that do not
MODELS = ("internvl3_1b", "gemma3_4b", "gemma4_e2b", "smolvlm2_2b", "minicpm_v_4_6")
PLAIN = ("llava_1_5_7b", "qwen2_5_vl_7b")


@pytest.mark.parametrize("name", [*MODELS, *PLAIN])
def test_the_question_is_what_the_user_wrote_and_no_mark_of_the_processor(name: str) -> None:
    (cell,) = compose_cells([f"model={name}"], sweep=False)
    model, processor = reduced(cell.model)
    family = family_of(model, processor)
    content = [{"type": "image"}, {"type": "text", "text": QUESTION}]
    text = processor.apply_chat_template(
        [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
    )
    picture = Image.new("RGB", (112, 112), "red")

    ids = processor(images=[[picture]], text=[text], return_tensors="pt")["input_ids"][0]

    visual = family.visual_kind(ids[None])[0].nonzero()[:, 0]
    rows = question_of(visual, len(ids), family.margins, family.closing)
    assert processor.tokenizer.decode(ids[rows]).strip() == QUESTION
    assert torch.equal(rows, torch.arange(int(rows[0]), int(rows[-1]) + 1))
