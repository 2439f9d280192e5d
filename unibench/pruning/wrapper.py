"""Methods around another method: they correct what it sees, and choose nothing themselves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from unibench.pruning.context import Lens, StageContext
from unibench.pruning.stage import Aspect, Composite, Method, Selection, Stage

if TYPE_CHECKING:
    from unibench.facts import ModelFacts
    from unibench.pruning.encoder import EncoderStage
    from unibench.pruning.family import Family

WHAT: dict[Aspect, str] = {
    "geometry": "how tokens are compared",
    "attention": "attention inside the language model",
    "saliency": "attention inside the vision tower",
}


class Wrapper(Composite, Lens):
    """A method around another one. Subclasses are frozen dataclasses with a field ``inner`` that
    holds it, and override what they correct of :class:`~unibench.pruning.context.Lens`.

    On the command line ``method=divprune wrap=[cen_prune]`` is ``method=cen_prune
    method.inner=divprune``.

    Class attributes:
        corrects: the aspect of a context.
    """

    corrects: ClassVar[Aspect]
    inner: Method

    @property
    def parts(self) -> Sequence[Method]:
        return (self.inner,)

    def requires(self, family: type[Family], model: ModelFacts) -> str | None:
        # a correction that nobody asks for would be a run of the plain method under another name
        if self.corrects not in self.inner.corrected:
            return (
                f"{type(self).__name__} corrects {WHAT[self.corrects]}, for which"
                f" {type(self.inner).__name__} does not ask, so that nothing would change"
            )
        return self.inner.requires(family, model)

    def stages(self, depth: int) -> Sequence[Stage]:
        return list(map(self._through, self.inner.stages(depth)))

    def averaged(self, depth: int) -> Sequence[Stage]:
        return list(map(self._through, self.inner.averaged(depth)))

    def encoder(self, blocks: int) -> Sequence[EncoderStage]:
        return self.inner.encoder(blocks)

    def _through(self, stage: Stage) -> Stage:
        """The stage as the inner method makes it, seen through this lens."""
        select: Callable[[StageContext], Selection | None] = stage.select
        # an outer wrapper has put its lens there already: the innermost looks last
        return replace(stage, select=lambda ctx: select(replace(ctx, lenses=(*ctx.lenses, self))))
