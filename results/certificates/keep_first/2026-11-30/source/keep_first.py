from dataclasses import dataclass
from unibench import Method, StageContext


@dataclass(frozen=True)
class KeepFirst(Method):
    """Keeps the first tokens."""

    def score(self, ctx: StageContext):
        return -ctx.vision_rows.float()  # [N]: the highest stay
