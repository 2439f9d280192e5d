"""What the engine must know about a model family, and nothing else."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

import torch
from torch import Tensor, nn

from unibench.errors import UsageError
from unibench.facts import FULL, layer_kinds
from unibench.pruning.attention import QueryKey, rotated_back
from unibench.pruning.layout import Item, Part

if TYPE_CHECKING:
    from unibench.pruning.pixels import PixelContext

Resizing = Literal["native", "tiles", "one"]


@dataclass
class VisionCall:
    """One call of the model's ``get_image_features`` or ``get_video_features``.

    Attributes:
        modality: ``"image"`` or ``"video"``.
        arguments: by parameter name.
        output: what the call returned.
        tokens: number of language-model tokens it made. Counted at once, since beam search repeats
            the features in place afterwards.
        attention: queries and keys by vision-tower layer, one entry per chunk of the tower's batch.
        hidden: output hidden states by vision-tower layer.
        joined: what entered the projector's first layer.
        merged: ``[tokens]`` True on the tokens that stand for merged ones, if a method merged in
            the tower.
        anchors: then, for each tile, the block of every merge and the place (prefix included) of
            each token that it left.
        owners: ``[tokens]`` then, the token at whose place the row stands that each went into; -1
            is none.
    """

    modality: str
    arguments: dict[str, Any]
    output: Any = None
    tokens: int = 0
    attention: dict[int, list[QueryKey]] = field(default_factory=dict)
    hidden: dict[int, Tensor] = field(default_factory=dict)
    joined: list[Tensor] = field(default_factory=list)
    merged: Tensor | None = None
    anchors: list[list[tuple[int, Tensor]]] = field(default_factory=list)
    owners: Tensor | None = None

    def spread(self, chunks: list[Tensor], block: int, prefix: int) -> list[Tensor]:
        """Values ``[1, n, ...]`` of the tokens that entered a block, per tile, at the places of all
        its patches; zero elsewhere.
        """
        if self.merged is None:
            return chunks
        places = len(self.merged) // len(self.anchors) + prefix
        found = []
        for chunk, merges in zip(chunks, self.anchors, strict=True):
            # a merge of this very block comes behind its attention, which saw what entered it
            left = [anchor for before, anchor in merges if before < block]
            whole = chunk.new_zeros(1, places, *chunk.shape[2:])
            found.append(whole.index_copy(1, left[-1], chunk) if left else chunk)
        return found


class CommonSpace(Protocol):
    """A space in which patches and questions can be compared."""

    def patches(self, hidden: Tensor) -> Tensor:
        """Tower states ``[N, C]`` to ``[N, P]``."""
        ...

    def question(self, ids: Tensor) -> Tensor:
        """Ids of a question ``[T]`` to one row per segment, ``[M, P]``."""
        ...

    def words(self, ids: Tensor) -> Tensor:
        """Ids of a question ``[T]`` to one row for each token that CLIP reads, ``[L, P]``."""
        ...

    def project(self, hidden: Tensor) -> Tensor:
        """Tower states ``[N, C]`` to ``[N, P]`` without the norm that CLIP trained for CLS."""
        ...


class PoolingHead(Protocol):
    """The attention pooling that a tower was trained with."""

    def __call__(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Tower states ``[tiles, patches, C]`` as one row for each tile ``[tiles, P]``, and the
        attention on its patches ``[tiles, patches]``.
        """
        ...


class Family:
    """What belongs to a checkpoint: where its modules are, how its vision patches become
    language-model tokens, how its chat template surrounds a question, which CLIP its tower is.

    The base describes towers that run tiles as a batch, one token per patch. A family overrides
    what differs; :meth:`pack` is the one method that needs thought.

    Args:
        model: a Hugging Face image-text-to-text model.
        processor: of the model; only methods that read the question need it.
        clip: opens the CLIP that the tower comes from; None where the model came without it.
        pooling: opens the pooling head that the tower was trained with and the model left out; None
            where the model came without it.

    Class attributes:
        model_types: ``config.model_type`` values served.
        provides: what only some families have, for example ``"cls_token"``; ``"token_projector"``:
            its projector works token by token (:attr:`feature_layer` is given); ``"clip_tower"``:
            its tower is a CLIP's; ``"projector"``: :attr:`projector` is given;
            ``"video_time"``: frames of a video stand in time, without text between them.
        tower_merging: whether tokens may be merged inside the vision tower where the projector
            reads one layer token by token: the family has :meth:`halves`, and one token per patch.
        resizing: what a smaller picture is to the processor: ``native``, fewer tokens, one for each
            patch; ``tiles``, fewer tiles; ``one``, nothing: all pictures are shown in one size.
        pixel_dropping: whether tokens may be dropped ahead of the vision tower: the family has
            :meth:`pixel_tokens`.
        prefix_tokens: tokens in front of the patches of a tile (CLS, registers).
        batches: whether the features of a picture do not depend on the pictures of other prompts in
            its batch.
        frames_are_pictures: whether the processor hands the frames of a video over as pictures of
            one grid each; equal ones that follow each other are then numbered as one video.
        sees_ahead: whether the text of a prompt attends to what comes after it, so that attention
            from keys and queries with a causal mask is not the model's.
        closing: text tokens behind the last visual one of a prompt that belong to its picture and
            see what comes after them, as no instruction does.
        saliency_layer: the vision block whose attention says what the tower looks at: the one that
            produces the features, or the last that sees the whole picture.
    """

    model_types: ClassVar[tuple[str, ...]] = ()
    provides: ClassVar[frozenset[str]] = frozenset()
    tower_merging: ClassVar[bool] = False
    resizing: ClassVar[Resizing] = "one"
    pixel_dropping: bool = False
    prefix_tokens: int = 0
    batches: bool = True
    frames_are_pictures: bool = False
    sees_ahead: ClassVar[bool] = False
    closing: ClassVar[int] = 0
    saliency_layer: int = -1

    def __init__(
        self,
        model: Any,
        processor: Any = None,
        *,
        clip: Callable[[], CommonSpace] | None = None,
        pooling: Callable[[], PoolingHead] | None = None,
    ) -> None:
        self.model, self.processor, self.clip, self.pooling = model, processor, clip, pooling
        # its forward is given input_ids; it owns get_image_features
        self.core: Any = model.model

    @cached_property
    def margins(self) -> tuple[int, int]:
        """Tokens of the chat template between the last picture and the question, and after it.

        Raises:
            UsageError: the family was built without a processor.
        """
        if self.processor is None:
            raise UsageError(
                "this method reads the question, and where the chat template ends and the question"
                " begins only the model's processor says: give prune(..., processor=processor)"
                " (a method of your own that declares Needs(question=True) has it looked for)"
            )
        # no processor says where its template ends, so a rendered prompt has to show it
        question = "\u00abQ\u00bb"  # no template has it
        content = [{"type": "image"}, {"type": "text", "text": question}]
        text: str = self.processor.apply_chat_template(
            [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
        )
        before, _, after = text.partition(question)
        image = getattr(self.processor, "image_token", None)
        lead = before.rpartition(image)[2] if image and image in before else ""
        encode = self.processor.tokenizer.encode
        lengths = [len(encode(part, add_special_tokens=False)) for part in (lead, after)]
        return lengths[0], lengths[1]

    @property
    def text_model(self) -> Any:
        """The decoder without its head: ``layers``, ``norm``, ``rotary_emb``."""
        return self.core.language_model

    @property
    def vision_tower(self) -> Any:
        return self.core.vision_tower

    @property
    def vit_blocks(self) -> list[nn.Module]:
        raise NotImplementedError

    @property
    def vit_attentions(self) -> list[nn.Module]:
        """The module of each vision block that calls the attention function."""
        return [block.self_attn for block in self.vit_blocks]  # type: ignore[misc]

    def rotary(self, hidden: Tensor, positions: Tensor, kind: str = FULL) -> tuple[Tensor, Tensor]:
        """cos and sin as the decoder layers of a kind take them.

        Args:
            hidden: ``[B, L, D]``; its dtype and device count.
            positions: ``[B, L]``, or ``[3, B, L]`` in a decoder with three axes; fractions too.
            kind: of layer, see :attr:`kinds`.
        """
        embed = self.text_model.rotary_emb
        # Gemma turns layers with a window at another rate
        apart = "layer_type" in inspect.signature(embed.forward).parameters
        cos, sin = embed(hidden, positions, *([kind] if apart else []))
        return cos, sin

    def llm_attention(self, layer: int) -> nn.Module:
        """The module of a decoder layer that calls the attention function."""
        module: nn.Module = self.text_model.layers[layer].self_attn
        return module

    def unrotated(self, layer: int, hidden: Tensor) -> QueryKey:
        """Queries and keys that a decoder layer makes of the states that enter it, before their
        rotation, after the norms of queries and keys where the family has them.

        Args:
            layer: of the decoder.
            hidden: ``[T, D]`` of one sample.
        """
        module: Any = self.llm_attention(layer)
        normed = self.text_model.layers[layer].input_layernorm(
            hidden.to(next(module.q_proj.parameters()).dtype)
        )
        found = []
        for kind in "qk":
            weight = getattr(module, f"{kind}_proj")
            rows = weight(normed).unflatten(-1, (-1, module.head_dim))
            rows = getattr(module, f"{kind}_norm", lambda heads: heads)(rows)
            found.append(rows.transpose(0, 1)[None])
        return QueryKey(found[0], found[1], float(module.scaling))

    def rotated_back(self, qk: QueryKey, rotary: tuple[Tensor, Tensor]) -> QueryKey:
        """Queries and keys of a decoder layer before their rotary embedding, float32.

        Args:
            qk: ``[..., heads, tokens, head_dim]``, rotated.
            rotary: cos and sin of the tokens.
        """
        return rotated_back(qk, rotary)

    @cached_property
    def kinds(self) -> tuple[str, ...]:
        """The kind of each decoder layer, by transformers' names."""
        found = layer_kinds(self.text_model.config.to_dict())
        assert found is not None
        return found

    @property
    def window(self) -> int | None:
        """Width of a sliding window in positions, the query's own included."""
        width: int | None = self.text_model.config.sliding_window
        return width

    @property
    def deepstack(self) -> int:
        """Number of decoder layers after which the text model adds features to the visual
        tokens.
        """
        return 0

    @property
    def object_layer(self) -> int:
        """A middle vision block, where attention outlines objects: 8 of 24, as HiPrune found for
        CLIP.
        """
        # index 8 of 24 is HiPrune's layer 9, which counts from one
        return max(0, len(self.vit_blocks) * 3 // 8 - 1)

    @property
    def local_layer(self) -> int:
        """A shallow vision block, where attention looks at what is near: 5 of 24, as VScan takes
        for CLIP.
        """
        return len(self.vit_blocks) * 5 // 24

    @property
    def feature_layer(self) -> int | None:
        """The vision block whose output the projector takes token by token; None if it joins
        patches.
        """
        return None

    @property
    def projector(self) -> tuple[nn.Module, ...]:
        """The layers that take a token of the tower to the language model, in order, from where
        patches are joined; empty if they are not known, or only one linear map.
        """
        return ()

    @property
    def merges(self) -> bool:
        """Whether tokens may be merged inside the vision tower of this model."""
        return self.tower_merging and self.feature_layer is not None

    def halves(self, block: nn.Module) -> tuple[nn.Module, nn.Module]:
        """The second norm of a vision block and the feed-forward network behind it."""
        raise NotImplementedError

    def project(self, features: Tensor) -> Tensor:
        """Encoder features ``[N, C]`` to the language model's space ``[N, D]``, where
        :attr:`feature_layer` is given.

        Raises:
            NotImplementedError: the projector joins patches.
        """
        raise NotImplementedError(
            f"the projector of {self.model_types[0]} does not work token by token"
        )

    @property
    def has_words(self) -> bool:
        """Whether ids and words can be turned into each other."""
        return hasattr(getattr(self.processor, "tokenizer", None), "decode")

    def text(self, ids: Tensor) -> str:
        """What token ids ``[T]`` say, without special tokens; needs the processor."""
        said: str = self.processor.tokenizer.decode(ids, skip_special_tokens=True)
        return said

    def embedded(self, text: str | list[str]) -> Tensor:
        """Rows of the language model's embedding table for a text, or for words that are tokenised
        one by one, ``[m, D]``; needs the processor.
        """
        split = not isinstance(text, str)
        read = self.processor.tokenizer(text, is_split_into_words=split, add_special_tokens=False)
        table = self.model.get_input_embeddings()
        ids = torch.tensor(read.input_ids, dtype=torch.long, device=table.weight.device)
        rows: Tensor = table(ids)
        return rows

    def visual_kind(self, input_ids: Tensor) -> Tensor:
        """What each token of ``input_ids [B, L]`` stands for: 0 text, 1 image, 2 video."""
        kind = torch.zeros_like(input_ids)
        for value, name in ((1, "image_token_id"), (2, "video_token_id")):
            token = getattr(self.model.config, name, None)
            if token is not None:
                kind[input_ids == token] = value
        return kind

    def items(self, call: VisionCall, runs: list[int]) -> list[tuple[Part, ...]]:
        """The images or videos of a call, in order, each as the grids that its tokens lie in.

        Args:
            call: the recorded call.
            runs: lengths of the contiguous runs of this modality's tokens in the prompts of the
                batch.
        """
        raise NotImplementedError

    def added(self, call: VisionCall) -> int:
        """Tokens that the model itself puts behind the features of a call, which count among its
        tokens too.
        """
        return 0

    def tiles_across(self, call: VisionCall, first: int, tiles: int) -> int:
        """Tiles in a row of a picture, where they are not stitched; 0 if that is not known.

        Args:
            call: the recorded call.
            first: row of the picture's first token among those of the call.
            tiles: number of them, the overview not counted.
        """
        return 0

    def pixels(self, call: VisionCall, items: list[Item]) -> list[Tensor]:
        """What the tower was given of each image or video of a call, without padding.

        Where a call cannot be taken apart, each has all of it.

        Args:
            call: the recorded call.
            items: the images or videos of :meth:`items`, as they lie in the prompts.
        """
        name = "pixel_values" if call.modality == "image" else "pixel_values_videos"
        values: Tensor | list[Tensor] = call.arguments[name]
        if not isinstance(values, Tensor):  # a processor that makes no batch
            return values
        pictures = self.split_pixels(values, call, items)
        # the pixels of all for each is coarser, never wrong: equal digests still mean equal pixels
        return pictures if len(pictures) == len(items) else [values] * len(items)

    def split_pixels(self, values: Tensor, call: VisionCall, items: list[Item]) -> list[Tensor]:
        """Pixels of each image or video; those of the base lie in rows of their own."""
        return list(values)

    def pixel_tokens(self, call: VisionCall) -> list[PixelContext]:
        """The pixels of each picture of a call, by language-model token."""
        raise NotImplementedError

    @property
    def patches_of_token(self) -> int:
        """Patches that become a token, which lie side by side in front of the blocks."""
        return 1

    @property
    def mergers(self) -> Sequence[nn.Module]:
        """Modules that make tokens of patches, behind the last block and between blocks."""
        return ()

    def block_order(self, call: VisionCall) -> Tensor | None:
        """The tokens, in raster order, whose patches the blocks take one after the other; None is
        raster order.
        """
        return None

    def join(self, chunks: list[Tensor]) -> Tensor:
        """Per-chunk values ``[chunk, tokens, ...]`` in the layout that :meth:`pack` takes."""
        return self.strip(torch.cat(chunks))

    def whole(self, chunks: list[QueryKey], call: VisionCall) -> list[QueryKey]:
        """The chunks of one layer with every picture in one piece, for towers that attend in
        windows.
        """
        return chunks

    def strip(self, hidden: Tensor) -> Tensor:
        """Tower states without the prefix tokens."""
        return hidden[:, self.prefix_tokens :]

    def pack(self, values: Tensor, call: VisionCall, fill: float) -> Tensor:
        """Values per vision patch to values per language-model token, as the model does with its
        features.

        Args:
            values: ``[tiles, patches, C]`` (towers without a batch axis: ``[patches, C]``).
            call: the call they are from.
            fill: value of tokens that have no patch (newline rows).

        Returns:
            ``[N, C]``.
        """
        return values.flatten(0, 1)

    def pack_joined(self, values: Tensor, call: VisionCall, fill: float) -> Tensor:
        """What enters :attr:`projector`, ``[..., tokens, C]``, as language-model tokens ``[N, C]``;
        as :meth:`pack` where no patches are joined before.
        """
        return self.pack(values, call, fill)
