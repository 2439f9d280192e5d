"""What a selection computes is counted where it runs, for guests as for our own methods."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

import unibench
from tests.methods._contexts import BESIDES, FORMS, METHODS, build, prompt_for
from tests.support.clocks import Ticking, ticking
from tests.support.methods import Unbudgeted
from tests.support.models import HIDDEN, collate, inputs_of, model_of
from tests.support.turns import some_of
from unibench import Method, Selection, Stage, StageContext
from unibench.ops import counted, did
from unibench.pruning.record import PromptRecord

__all__ = ["ticking"]  # a fixture

N, D = 120, 96


def loop_of_products(x: Tensor) -> Tensor:
    return torch.stack([(x @ x[row]).sum() for row in range(len(x))])


def loop_of_differences(x: Tensor) -> Tensor:
    found = x.new_zeros(len(x))
    for row in range(len(x)):
        found += (x - x[row]).square().sum(-1).sqrt()
    return found


GUESTS: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[int, int], int]]] = {
    "product": (lambda x: (x @ x.T).amax(1), lambda n, d: 2 * n * n * d),
    "einsum": (lambda x: torch.einsum("nd,md->nm", x, x).amax(1), lambda n, d: 2 * n * n * d),
    "cdist": (lambda x: torch.cdist(x, x).amin(1), lambda n, d: 3 * n * n * d),
    "difference": (
        lambda x: (x[:, None] - x[None]).norm(dim=-1).amin(1),
        lambda n, d: 3 * n * n * d,
    ),
    "manhattan": (
        lambda x: (x[:, None] - x[None]).abs().sum(-1).amin(1),
        lambda n, d: 2 * n * n * d,
    ),
    "loop of products": (loop_of_products, lambda n, d: 2 * n * n * d),
    "loop of differences": (loop_of_differences, lambda n, d: 3 * n * n * d),
    "softmax": (lambda x: (x @ x.T).softmax(-1).amax(1), lambda n, d: n * n * (2 * d + 4)),
    "correlation": (lambda x: torch.corrcoef(x).amax(1), lambda n, d: 2 * n * n * d),
}


@pytest.mark.parametrize("inference", [False, True])
@pytest.mark.parametrize("name", GUESTS)
def test_a_guest_costs_what_its_formula_says(name: str, inference: bool) -> None:
    score, formula = GUESTS[name]
    x = torch.randn(N, D, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode(inference), counted() as work:
        score(x)
    assert work.flops == pytest.approx(formula(N, D), rel=0.025 if name == "correlation" else 0.01)
    assert work.uncounted == ()


def record_of(method: Method, **options: Any) -> PromptRecord:
    with unibench.prune(model_of("qwen2_5_vl"), method, **options) as session, torch.no_grad():
        model_of("qwen2_5_vl")(**inputs_of("qwen2_5_vl", 0, 3))
    (record,) = session.take_records()
    return record


@pytest.mark.parametrize("name", GUESTS)
def test_the_record_of_a_guest_says_so_too(name: str) -> None:
    score, _ = GUESTS[name]

    class Guest(Method):
        def score(self, ctx: StageContext) -> Tensor:
            return score(ctx.visual_hidden)

    record = record_of(Guest(), ratio=0.5)
    with counted() as alone:
        score(torch.randn(record.visual_tokens, HIDDEN))
    assert record.method_macs == alone.flops / 2 > 0
    assert record.product_macs == alone.macs
    assert record.uncounted == ()


def test_copies_comparisons_and_whole_numbers_cost_nothing() -> None:
    x = torch.randn(N, D)
    with counted() as work:
        order = x.sum(1).argsort()  # the only arithmetic
        torch.cat([x[order][:5], x.index_select(0, order)]).clamp_min(0).maximum(-x[:1])
        torch.where(x > 0, x, -x.abs()).topk(3).values.masked_fill(x[:, :3] > 0, 1.0)
        (order * 2 + 1).cumsum(0).float().bool().long().sum()
        x.double().T.contiguous().view(-1).unflatten(0, (D, N)).sort().values.amax()
        torch.rand(N).bernoulli_()
    assert (work.flops, work.uncounted) == (N * D, ())


def test_what_nobody_counts_is_named() -> None:
    class Decomposing(Method):
        def score(self, ctx: StageContext) -> Tensor:
            return torch.linalg.svd(ctx.visual_hidden, full_matrices=False).U[:, 0]

    class Leaving(Method):
        def score(self, ctx: StageContext) -> Tensor:
            x = ctx.visual_hidden.numpy()
            return torch.from_numpy((x @ x.T).max(1))

    assert record_of(Decomposing(), keep=4).uncounted == ("linalg_svd",)
    assert record_of(Leaving(), keep=4).uncounted == ("numpy",)


def test_work_outside_of_torch_is_added_where_it_is_declared() -> None:
    class Declaring(Method):
        def score(self, ctx: StageContext) -> Tensor:
            x = ctx.visual_hidden.numpy()
            did(2 * len(x) ** 2 * x.shape[1])
            return torch.from_numpy((x @ x.T).max(1))

    record = record_of(Declaring(), keep=4)
    assert record.method_macs == record.visual_tokens**2 * HIDDEN
    assert record.uncounted == ()


ITERATIVE = {"linalg_eigh", "linalg_svd"}  # how many steps they take depends on the matrix
WITHOUT_ARITHMETIC = {
    *(
        "vanilla",
        "keep_borders",
        "random_intra",
        "random_like",
        "random_pre",
        "uniform_grid",
        "vtw",
    ),
    "pooling[square]",  # of maxima
}


@some_of("name", [*METHODS, *FORMS], 3)
def test_every_operator_of_our_own_methods_has_a_formula(name: str) -> None:
    if build(name).wants & {"clip_tower"}:
        pytest.skip("needs a CLIP")
    family, prompt = prompt_for(name, images=2)
    model = model_of(family)
    with unibench.prune(model, build(name), ratio=0.667, **BESIDES) as session, torch.no_grad():
        model(**prompt, use_cache=True)
    (record,), (times,) = session.take_records(), session.take_times()
    assert set(record.uncounted) <= ITERATIVE
    assert record.method_macs > 0 or name in WITHOUT_ARITHMETIC
    assert times.prefill > 0 and (times.method == 0) == (name == "vanilla")


@dataclass(frozen=True)
class Twice(Unbudgeted):
    """Slow when it is asked again; leaves a memory, draws, remarks."""

    asked: list[dict[str, Tensor]]
    sleep: Callable[[float], None] = lambda seconds: None

    def stages(self, depth: int) -> list[Stage]:
        return [Stage(0, self.leave, exact=False), Stage(2, self.read, exact=False)]

    def leave(self, ctx: StageContext) -> None:
        self._ask(ctx)
        ctx.memory["seen"] = torch.tensor([len(ctx.visual)])

    def read(self, ctx: StageContext) -> Selection:
        self._ask(ctx)
        left = ctx.memory.pop("seen")
        return Selection(torch.arange(int(left) // 2))

    def _ask(self, ctx: StageContext) -> None:
        self.asked.append(dict(ctx.memory))
        ctx.note(f"asked at layer {ctx.layer}")
        torch.rand(3)
        if len(self.asked) in (2, 4):
            self.sleep(0.5)


def test_counting_is_beside_every_reported_time(ticking: Ticking) -> None:
    model, inputs = model_of("llava"), inputs_of("llava")
    method = Twice([], ticking.sleep)
    with unibench.prune(model, method) as session, torch.no_grad():
        for prompt in range(2):
            model(**inputs)
            (span,) = session.take_times()
            assert (span.excluded > 1) == (prompt == 0)
            assert span.method < span.prefill < 0.5
    assert len(method.asked) == 4 + 2  # twice for the first prompt, once for another of its shape


def test_counting_inside_the_vision_tower_is_not_its_time(ticking: Ticking) -> None:
    from unibench.methods.tome import ToMe

    calls: list[int] = []

    @dataclass(frozen=True)
    class Slow(ToMe):
        def _inside(self, ctx: Any) -> Any:
            calls.append(ctx.block)
            if calls.count(ctx.block) == 2:
                ticking.sleep(0.5)
            return super()._inside(ctx)

    with unibench.prune(model_of("llava"), Slow(), keep=8) as session, torch.no_grad():
        model_of("llava")(**inputs_of("llava"))
    (span,) = session.take_times()
    (record,) = session.take_records()
    assert span.excluded > 1 and span.vision + span.method < span.prefill < 0.5
    assert record.method_macs > 0


def test_counting_leaves_memory_remarks_and_random_numbers_alone() -> None:
    model, inputs = model_of("llava"), inputs_of("llava")
    method = Twice([])
    torch.manual_seed(0)
    expected = torch.rand(3)  # what the method draws is beside it
    torch.manual_seed(0)
    with unibench.prune(model, method) as session, torch.no_grad():
        model(**inputs)
    assert torch.equal(torch.rand(3), expected)
    first, again, then, once_more = method.asked
    assert first == again == {} and list(then) == list(once_more) == ["seen"]
    assert session.notes == {"asked at layer 0", "asked at layer 2"}
    assert session.take_records()[0].kept == 8


def test_who_only_looks_is_asked_once() -> None:
    asked: list[int] = []

    class Looking(Unbudgeted):
        def select(self, ctx: StageContext) -> None:
            asked.append(ctx.layer)

    with unibench.prune(model_of("llava"), Looking()), torch.no_grad():
        model_of("llava")(**inputs_of("llava"))
    assert asked == [0]


def test_a_method_that_cannot_be_asked_again_is_answered_and_named() -> None:
    asked: list[int] = []

    class Once(Unbudgeted):
        def select(self, ctx: StageContext) -> Selection:
            asked.append(ctx.layer)
            if len(asked) > 1:
                raise KeyError("the state is gone")
            return Selection(torch.arange(ctx.keep))

    record = record_of(Once(), keep=4)
    assert record.kept == 4
    assert record.uncounted == ("everything (KeyError when it ran again)",)


def test_each_sample_of_a_batch_has_its_own_count() -> None:
    model = model_of("llava")
    samples = [inputs_of("llava", seed, 1 + seed) for seed in range(2)]
    with unibench.prune(model, "divprune", ratio=0.5) as session, torch.no_grad():
        model(**collate(samples))
        together = [record.method_macs for record in session.take_records()]
        for sample in samples:
            model(**sample)
        alone = [record.method_macs for record in session.take_records()]
    assert together == alone and alone[0] < alone[1]


def test_a_counter_around_the_model_does_not_see_the_second_run() -> None:
    from unibench.cost.counter import flop_counter

    model, inputs, totals = model_of("llava"), inputs_of("llava"), []
    with unibench.prune(model, "divprune", ratio=0.5), torch.no_grad():
        for _ in range(2):
            with flop_counter() as counter:
                model(**inputs)
            totals.append(counter.get_total_flops())
    assert totals[0] == totals[1]


def test_the_length_of_the_prompt_is_of_the_shape_for_those_who_look_at_it() -> None:
    @dataclass(frozen=True)
    class Asked(Unbudgeted):
        text: bool
        lengths: list[int]

        def select(self, ctx: StageContext) -> Selection:
            seen = ctx.visual_hidden
            if self.text:
                seen = torch.cat([seen, ctx.hidden[ctx.text].float()])
            self.lengths.append(len(seen))
            return Selection((seen @ seen.T).amax(1)[: len(ctx.visual)].topk(ctx.keep).indices)

    short = inputs_of("llava")
    long = dict(short)
    for name in ("input_ids", "attention_mask"):
        long[name] = torch.cat([short[name], short[name][:, -3:]], 1)
    for text in (False, True):
        method, macs = Asked(text, []), []
        with unibench.prune(model_of("llava"), method, keep=4) as session, torch.no_grad():
            for inputs in (short, long, short, long):
                model_of("llava")(**inputs)
                macs.append(session.take_records()[0].method_macs)
        count = len(method.lengths)
        assert count == (4 + 2 if text else 4 + 1)
        assert macs[:2] == macs[2:] and (macs[0] < macs[1]) == text
