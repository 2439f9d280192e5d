"""``--cfg`` and ``--info``: the configuration as Hydra composes and prints it."""

from __future__ import annotations

from contextlib import redirect_stderr
from io import StringIO

from hydra import initialize_config_module
from hydra.core.global_hydra import GlobalHydra

from unibench.cli.parser import Options
from unibench.compose import cell_overrides, hydra_lines, register
from unibench.errors import UsageError, UsageErrors, unknown
from unibench.overrides import refusing

CONFIGURATIONS = ("job", "hydra", "all")
PAGES = ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath")


def compose(options: Options) -> int:
    """``--cfg job|hydra|all [--package KEY] [--resolve]`` or ``--info [PAGE]`` of one cell."""
    words, page = list(options.words), options.info
    if page is not None and "=" in page:  # --info stood before an override
        words, page = [*words, page], "all"
    for kind, given, known in (("--cfg", options.cfg, CONFIGURATIONS), ("--info", page, PAGES)):
        if given is not None and given not in known:
            options.mistakes.append(unknown(kind, given, known))
    if options.mistakes:
        raise UsageErrors(options.mistakes)
    cells = list(cell_overrides(words, sweep=options.multirun))
    if len(cells) != 1:
        raise UsageError(f"these words mean {len(cells)} cells; --cfg and --info show one")
    lines = [*hydra_lines(cells[0]), *(word for word in words if word.startswith("hydra"))]
    register()
    GlobalHydra.instance().clear()
    with initialize_config_module("unibench.configs", version_base="1.3", job_name="unibench"):
        hydra = GlobalHydra.instance().hydra
        assert hydra is not None
        with refusing(" ".join(words) or "config"):
            if page is not None:
                hydra.show_info(page, "config", lines)
                return 0
            said = StringIO()
            try:
                with redirect_stderr(said):
                    hydra.show_cfg("config", lines, options.cfg, options.package, options.resolve)
            except SystemExit:  # there is no such package
                raise UsageError(said.getvalue().strip()) from None
    return 0
