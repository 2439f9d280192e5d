"""What pruning does to a server: vanilla, methods and the resize control under the same loads."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import fmean, stdev
from typing import Literal

from scipy import stats

from unibench.errors import UsageError
from unibench.serving.builtin import Own, check, of_videos
from unibench.serving.load import Ask, Burst, Told, clip, closed, open_, picture
from unibench.serving.server import Address, Server
from unibench.serving.settings import Settings
from unibench.tasks.synthvideo import SynthVideo
from unibench.tasks.synthvqa import SynthVQA

VANILLA, RESIZE = "vanilla", "resize"
QUANTILES = (50, 95, 99)
CLIPS = 40  # samples of synthvideo that a load goes round in: a mark makes each video a new one
Way = Literal["closed", "open"]


@dataclass(frozen=True)
class Contender:
    """What is compared.

    Attributes:
        name: of its line.
        settings: of its server; None is vLLM's own class.
        share: of a picture's pixels that are sent: the resize control has that of the budget.
        own: pruning of vLLM itself in its server.
    """

    name: str
    settings: Settings | None = None
    share: float = 1.0
    own: Own | None = None


@dataclass(frozen=True)
class Load:
    """How requests come.

    Attributes:
        way: ``closed``: so many under way at once; ``open``: so many a second, at random.
        size: that many.
    """

    way: Way
    size: float

    @property
    def name(self) -> str:
        """For tables."""
        return f"{self.size:g} at once" if self.way == "closed" else f"{self.size:g}/s"


@dataclass(frozen=True)
class Limits:
    """What a good answer keeps to, in milliseconds.

    Attributes:
        ttft: until its first token.
        total: until its last one.
    """

    ttft: float = 2000.0
    total: float = 5000.0

    def keeps(self, told: Told) -> bool:
        """Whether an answer does."""
        if told.error or told.ttft is None:
            return False
        return 1000 * told.ttft <= self.ttft and 1000 * told.took <= self.total


@dataclass(frozen=True)
class Line:
    """A contender under a load.

    Attributes:
        contender, load: their names.
        way, size: of the load.
        requests: in all rounds; failed: of them.
        rates: requests a second in each round.
        rate: mean of the rounds, with the bounds of its 95 % interval by Student's t; None below
            three rounds.
        ttft, tpot, total: milliseconds, by percentile, of all rounds.
        good: answers within the limits a second, mean of the rounds.
        prompt, tokens: mean tokens of prompt and answer.
        kv: the largest share of the cache in use.
        errors: what clients saw, once each.
    """

    contender: str
    load: str
    way: Way
    size: float
    requests: int
    failed: int
    rates: list[float]
    rate: tuple[float, float | None, float | None]
    ttft: dict[str, float]
    tpot: dict[str, float]
    total: dict[str, float]
    good: float
    prompt: float
    tokens: float
    kv: float | None
    errors: list[str] = field(default_factory=list)


def contenders(
    methods: Sequence[str], ratios: Sequence[str], resize: bool, own: Sequence[str] = ()
) -> list[Contender]:
    """Vanilla, every method and pruning of vLLM at every ratio, and the control at every ratio.

    Raises:
        UsageError: a method or a ratio that cannot be served.
    """
    found = [Contender(VANILLA)]
    for method in methods:
        for ratio in ratios:
            settings = Settings(method, ratio=ratio)
            settings.build()
            found.append(Contender(f"{method} {settings.budget.label}", settings))
    for name in own:
        for ratio in ratios:
            pruning = Own.of(name, ratio)
            found.append(Contender(f"vLLM {name} {pruning.budget.label}", own=pruning))
    for ratio in ratios if resize else ():
        budget = Settings("divprune", ratio=ratio).budget
        assert budget.retention is not None
        share = float(budget.retention)
        found.append(Contender(f"{RESIZE} {budget.label}", share=share))
    return found


@dataclass(frozen=True)
class Bench:
    """A measurement.

    Attributes:
        contenders: see :func:`contenders`.
        loads: in this order in every round.
        requests: of each load in each round.
        rounds: repeats, contenders in another order in each.
        side: longer side of a picture in pixels; None as it is.
        max_tokens: of an answer.
        limits: of a good answer.
        seed: of pictures and arrivals.
        frames: of a video, which is shown in place of a picture, and answered by ``max_tokens``
            tokens whatever the model says; None shows pictures.
    """

    contenders: Sequence[Contender]
    loads: Sequence[Load]
    requests: int = 16
    rounds: int = 3
    side: int | None = None
    max_tokens: int = 16
    limits: Limits = Limits()
    seed: int = 0
    frames: int | None = None

    def check(self, folder: Path, options: Sequence[str]) -> None:
        """Refuse contenders that cannot prune what is sent, before a server is started.

        Raises:
            UsageError: one cannot.
        """
        if self.frames is not None:
            SynthVideo(frames=self.frames)
        methods = [one.settings for one in self.contenders if one.settings is not None]
        own = [one.own for one in self.contenders if one.own is not None]
        check(folder, self.frames, methods, own, options)

    def run(self, addresses: Mapping[str, Address]) -> list[Line]:
        """Measure on servers that are running; contenders take turns within each load of a round,
        so that what else the machine does falls on all of them.

        Args:
            addresses: of each contender's server, by its name.
        """
        bursts: dict[tuple[str, Load], list[Burst]] = {}
        for contender in self.contenders:  # the first requests of a server compile and fill caches
            asks = list(self._asks(contender, self.seed + 10**9, 2))
            closed(addresses[contender.name], asks, 2)
        seed = self.seed
        for number in range(self.rounds):
            for load in self.loads:
                turn = number % len(self.contenders)
                for contender in [*self.contenders[turn:], *self.contenders[:turn]]:
                    asks = list(self._asks(contender, seed, self.requests))
                    burst = self._burst(addresses[contender.name], asks, load, seed)
                    bursts.setdefault((contender.name, load), []).append(burst)
                seed += self.requests
        return [self._line(name, load, found) for (name, load), found in bursts.items()]

    def _burst(self, address: Address, asks: Sequence[Ask], load: Load, seed: int) -> Burst:
        if load.way == "closed":
            return closed(address, asks, int(load.size))
        return open_(address, asks, load.size, seed)

    def _asks(self, contender: Contender, seed: int, count: int) -> Iterator[Ask]:
        """The same questions and pictures or videos for every contender of a round."""
        task = SynthVQA() if self.frames is None else SynthVideo(frames=self.frames)
        # a picture and a clip have several questions there; every fifth has another one
        samples = list(task.samples(200 if self.frames is None else CLIPS))[::5]
        for number in range(seed, seed + count):
            sample = samples[number % len(samples)]
            shown = number, self.side, contender.share
            if self.frames is None:
                url = picture(sample.images[0], *shown)
                yield Ask(sample.question, (url,), self.max_tokens)
            else:
                url = clip(sample.images, *shown)
                yield Ask(sample.question, (), self.max_tokens, (url,), whole=True)

    def _line(self, name: str, load: Load, bursts: Sequence[Burst]) -> Line:
        told = [one for burst in bursts for one in burst.told]
        fine = [one for one in told if not one.error]
        rates = [sum(not one.error for one in burst.told) / burst.seconds for burst in bursts]
        good = [sum(map(self.limits.keeps, burst.told)) / burst.seconds for burst in bursts]
        used = [burst.kv for burst in bursts if burst.kv is not None]
        return Line(
            contender=name,
            load=load.name,
            way=load.way,
            size=load.size,
            requests=len(told),
            failed=len(told) - len(fine),
            rates=rates,
            rate=interval(rates),
            ttft=quantiles([one.ttft for one in fine if one.ttft is not None]),
            tpot=quantiles([one.tpot for one in fine if one.tpot is not None]),
            total=quantiles([one.took for one in fine]),
            good=fmean(good),
            prompt=fmean([one.prompt for one in fine]) if fine else math.nan,
            tokens=fmean([one.tokens for one in fine]) if fine else math.nan,
            kv=max(used, default=None),
            errors=list(dict.fromkeys(one.error for one in told if one.error)),
        )


def interval(values: Sequence[float]) -> tuple[float, float | None, float | None]:
    """The mean with its 95 % interval by Student's t, over rounds.

    >>> interval([2.0, 3.0])
    (2.5, None, None)
    """
    mean = fmean(values)
    if len(values) < 3:
        return mean, None, None
    half = float(stats.t.ppf(0.975, len(values) - 1)) * stdev(values) / math.sqrt(len(values))
    return mean, mean - half, mean + half


def quantiles(seconds: Sequence[float]) -> dict[str, float]:
    """Percentiles in milliseconds, each the smallest value that so many do not exceed.

    >>> quantiles([0.1, 0.2, 0.3])
    {'p50': 200.0, 'p95': 300.0, 'p99': 300.0}
    """
    ranked = sorted(1000 * value for value in seconds)
    if not ranked:
        return {f"p{one}": math.nan for one in QUANTILES}
    places = {one: math.ceil(one / 100 * len(ranked)) - 1 for one in QUANTILES}
    return {f"p{one}": round(ranked[place], 3) for one, place in places.items()}


def measured(
    bench: Bench, python: str, folder: Path, out: Path, options: Sequence[str], wait: float
) -> list[Line]:
    """Start a server for each setting, and measure. The control is vanilla's server."""
    told = options if bench.frames is None else of_videos(options)
    with ExitStack() as stack:
        servers: dict[str, Server] = {}
        for contender in bench.contenders:
            if contender.name.startswith(RESIZE):
                continue
            log = out / f"{contender.name.replace(' ', '_')}.log"
            more = () if contender.own is None else contender.own.arguments
            server = Server(python, folder, contender.settings, log, [*told, *more])
            servers[contender.name] = stack.enter_context(server)
        for server in servers.values():
            server.wait(wait)
        addresses = {
            one.name: servers.get(one.name, servers[VANILLA]).address for one in bench.contenders
        }
        return bench.run(addresses)


def elsewhere(bench: Bench, url: str) -> list[Line]:
    """Measure on a server that is running, which is one contender.

    Raises:
        UsageError: nobody answers there.
    """
    address = Address.of(url)
    try:
        address.get("/v1/models")
    except OSError as error:
        raise UsageError(f"url={url}: nobody answers: {error}") from None
    return bench.run({one.name: address for one in bench.contenders})


WHOLE = (
    "Every answer goes on to its last token, whatever the model says, so that answers of pruned"
    " videos cost as many steps as others."
)
OWN = (
    "`vLLM evs` and `vLLM vidcom2` are the engine's own (`--video-pruning-rate`): rows of cost"
    " alone. In vLLM 0.32 answers change when a video is asked about again and comes from the"
    " prefix cache, and EVS puts text behind a tall video of Qwen2.5-VL at wrong positions"
    " (docs/serving.md). They keep `int(N (1 - ratio))` tokens, EVS one frame at least; the plugin"
    " rounds."
)


def page(lines: Sequence[Line], bench: Bench, about: str, command: str) -> str:
    """The table as Markdown."""
    limits = bench.limits
    shown = "picture" if bench.frames is None else "video"
    text = [
        "# Load" if bench.frames is None else f"# Load of videos of {bench.frames} frames",
        "",
        about,
        "",
        f"{bench.requests} requests of each load in each of {bench.rounds} rounds, contenders in"
        f" turns; every {shown} is new. Times in ms, p50 / p95 / p99 over all rounds (p99 of so few"
        " requests is their slowest). requests/s: mean of the rounds, 95 % interval by Student's t."
        f" goodput: answers a second with the first token within {limits.ttft:g} ms and the last"
        f" within {limits.total:g} ms. resize: vanilla with {shown}s of as many tokens as the"
        " budget.",
        *(() if bench.frames is None else ("", WHOLE)),
        *(("", OWN) if any(one.own for one in bench.contenders) else ()),
        "",
        f"    {command}",
        "",
        "| contender | load | requests/s | goodput | TTFT | TPOT | end to end | prompt tokens |"
        " tokens | cache used | failed |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for line in lines:
        mean, low, high = line.rate
        bounds = "" if low is None or high is None else f" ({low:.2f} to {high:.2f})"
        cells = [
            *(line.contender, line.load, f"{mean:.2f}{bounds}", f"{line.good:.2f}"),
            *(_three(one) for one in (line.ttft, line.tpot, line.total)),
            *(f"{line.prompt:.1f}", f"{line.tokens:.1f}"),
            "" if line.kv is None else f"{100 * line.kv:.1f} %",
            f"{line.failed} of {line.requests}" if line.failed else "0",
        ]
        text.append(f"| {' | '.join(cells)} |")
    errors = [f"- {line.contender}, {line.load}: {one}" for line in lines for one in line.errors]
    if errors:
        text += ["", "What clients saw:", "", *errors]
    return "\n".join(text) + "\n"


def _three(found: Mapping[str, float]) -> str:
    return " / ".join("-" if math.isnan(value) else f"{value:.0f}" for value in found.values())


def drawn(lines: Sequence[Line], file: Path) -> None:
    """Latency against throughput, a curve for each contender; filled where requests come at
    random.
    """
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(9, 3.6), sharex=True)
    names = list(dict.fromkeys(line.contender for line in lines))
    for number, name in enumerate(names):
        for way, style in (("closed", "o-"), ("open", "s--")):
            chosen = [line for line in lines if line.contender == name and line.way == way]
            chosen.sort(key=lambda line: line.size)
            rates = [line.rate[0] for line in chosen]
            label = name if way == chosen_first(lines, name) else None
            for axes, what in ((left, "ttft"), (right, "total")):
                times = [getattr(line, what)["p95"] for line in chosen]
                axes.plot(rates, times, style, color=f"C{number}", label=label, markersize=4)
    left.set_ylabel("first token, p95 (ms)")
    right.set_ylabel("whole answer, p95 (ms)")
    for axes in (left, right):
        axes.set_xlabel("requests answered per second")
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
    right.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(file)
    pyplot.close(figure)


def chosen_first(lines: Sequence[Line], name: str) -> Way:
    """The way of a contender's first line, which carries its label."""
    return next(line.way for line in lines if line.contender == name)


def kept(lines: Sequence[Line], bench: Bench, about: str, command: str, out: Path) -> Path:
    """Write lines, page and plot into a folder; the page."""
    out.mkdir(parents=True, exist_ok=True)
    name = "load" if bench.frames is None else "video_load"
    plain = {"about": about, "command": command, "lines": [asdict(line) for line in lines]}
    (out / f"{name}.json").write_text(json.dumps(plain, indent=1), encoding="utf-8")
    drawn(lines, out / f"{name}.svg")
    plot = f"![latency and throughput]({name}.svg)\n"
    plot = "Circles are closed loops, squares open ones.\n\n" + plot
    text = page(lines, bench, about, command) + "\n" + plot
    (out / f"{name}.md").write_text(text, encoding="utf-8")
    return out / f"{name}.md"


def summary(lines: Sequence[Line]) -> Iterator[str]:
    """What a terminal shows."""
    for line in lines:
        yield (
            f"{line.contender:20s} {line.load:12s} {line.rate[0]:7.2f} requests/s  first token"
            f" {line.ttft['p50']:7.0f} ms  whole {line.total['p50']:7.0f} ms  failed {line.failed}"
        )
