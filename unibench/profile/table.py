"""Rows as a Markdown table with the protocol beneath it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from unibench.profile.measure import Table
from unibench.profile.request import Request

Cell = Callable[[dict[str, Any]], str]


def _span(key: str) -> Cell:
    return lambda row: _spread(row[f"{key}_ms"])


def _spread(found: dict[str, float], unit: str = "") -> str:
    return f"{_short(found['median'])}{unit} ({_short(found['low'])}-{_short(found['high'])})"


def _rate(row: dict[str, Any], count: int) -> str:
    """So many things in the whole of a pass, by the second."""
    return _short(1000 * count / row["total_ms"]["median"])


def _short(value: float) -> str:
    """Three digits.

    >>> _short(0.01234), _short(12.345), _short(12345.6)
    ('0.0123', '12.3', '12346')
    """
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


COLUMNS: dict[str, tuple[str, Cell]] = {
    "total": ("total ms", _span("total")),
    "vision": ("vision ms", _span("vision")),
    "prefill": ("prefill ms", _span("prefill")),
    "method": ("method ms", _span("method")),
    "decode": ("decode ms/token", _span("decode")),
    "samples/s": ("samples/s", lambda row: _rate(row, row["batch"])),
    "tokens/s": ("tokens/s", lambda row: _rate(row, row["batch"] * row["new_tokens"])),
    "speed-up": ("speed-up", lambda row: _spread(row["speedup"], "x")),
    "prefill speed-up": ("prefill speed-up", lambda row: _spread(row["prefill_speedup"], "x")),
    "predicted": ("by FLOPs", lambda row: f"{row['predicted_speedup']:.2f}x"),
    "TFLOP": ("TFLOP vision + LLM + method", lambda row: _flops(row)),
    "of vanilla": ("LLM + method, of vanilla", lambda row: f"{100 * row['tflops_ratio']:.1f} %"),
    "peak": ("peak MiB", lambda row: f"{row['peak_mib']:.1f}"),
    "weights": ("weights MiB", lambda row: f"{row['weights_mib']:.0f}"),
    "kv": ("KV MiB", lambda row: f"{row['kv_mib']:.2f}"),
    "steps": ("new tokens", lambda row: str(row["new_tokens"])),
    "flash": ("FlashAttention", lambda row: _flash(row)),
}


def cells(request: Request, table: Table) -> list[list[str]]:
    """The titles of a table and its lines."""
    shown = [COLUMNS[name] for name in request.rule.columns]
    lines = [["method", "ratio", "tokens kept", *(title for title, _ in shown)]]
    for row in table.rows:
        mark = " *" if row["timing_depends_on_data"] else ""
        kept = f"{row['kept']} of {row['tokens_in']}"
        found = [cell(row) for _, cell in shown]
        lines.append([row["method"] + mark, row["budget"], kept, *found])
    return lines


def markdown(request: Request, table: Table, command: str) -> str:
    """One table with its protocol, its machine and the command that made it."""
    heads, *rows = cells(request, table)
    align = _line(["---"] * 2 + ["---:"] * (len(heads) - 2))
    lines = [f"### {table.title}", "", _line(heads), align, *map(_line, rows)]
    return "\n".join([*lines, "", *remarks(request, table, command), ""])


def remarks(request: Request, table: Table, command: str) -> list[str]:
    """What stands below a table: protocol, machine, notes, the command."""
    rule, first = request.rule, table.rows[0]
    notes = sorted({f"{row['method']}: {note}" for row in table.rows for note in row["notes"]})
    if any(row["timing_depends_on_data"] for row in table.rows):
        notes.append("* the time of the selection depends on the picture; this one is noise")
    where, clock = table.environment, "CUDA events" if table.environment["cuda"] else "perf_counter"
    return [
        f"Protocol {request.protocol} ({rule.source}). {rule.text}",
        (
            f"{first['repeats']} repeats of {first['samples']} prompt(s) x batch {first['batch']},"
            f" all methods in turn, after {first['warmup']} warm-up pass(es) besides those that"
            " count FLOPs and memory; median (quartiles); speed-ups are medians of ratios to"
            f" vanilla within a repeat. {clock}; total begins with inputs on the device."
        ),
        (
            f"Attention kernel {first['attn']} for vanilla and all methods, {first['dtype']}; a"
            f" prompt has {first['text_tokens']} text tokens ({request.text_tokens} asked, the rest"
            " template)."
        ),
        (
            "vanilla has clocks alone; keep-all passes everything through a cut. Peak: tensors of"
            " the prefill above the weights. TFLOP: vision as torch counts it, language model by"
            " formula, method from the products of the selection."
        ),
        (
            f"Machine: {where['device']}, {where['threads']} thread(s) of {where['cores']} cores,"
            f" torch {where['packages']['torch']}, transformers"
            f" {where['packages']['transformers']}, unibench {where['code']}."
        ),
        *notes,
        "",
        f"    {command}",
    ]


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _flops(row: dict[str, Any]) -> str:
    model = row["tflops"] - row["method_tflops"]
    return f"{row['vision_tflops']:.3g} + {model:.3g} + {row['method_tflops']:.2g}"


def _flash(row: dict[str, Any]) -> str:
    return {
        "none": "yes",
        "language model": "yes, rows apart (LLM)",
        "vision tower": "yes, rows apart (ViT)",
    }[row["scores"]]
