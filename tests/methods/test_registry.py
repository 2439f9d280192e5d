"""A part declares itself once: what is read of it, where it is kept, and what is wrong with it."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import pytest

from unibench import UsageError, jsoncache, registry
from unibench.compose import compose_cells
from unibench.registry import lookup
from unibench.registry.cards import from_plain, to_plain

ROOT = Path(registry.ROOT).parent
HEAD = """from dataclasses import dataclass, field
from enum import Enum
from typing import Literal, Optional
from unibench import Method

"""
MINE = HEAD + "@dataclass(frozen=True)\nclass Mine(Method):\n"


def written(folder: Path, source: str, name: str = "mine.py") -> str:
    """A method's file, as a command names it."""
    (folder / name).write_text(source)
    return f"{folder / name}:Mine"


def python(code: str, folder: Path, package: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Code in a process of its own, which finds the packages of a folder and a unibench."""
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), str(package)])},
        cwd=folder,
        timeout=600,
    )


def commands(*lines: str) -> str:
    """Code that gives commands one after another; a failed one prints its exit code."""
    calls = [f"print('exit', main({line.split()!r}))" for line in lines]
    return "\n".join(["from unibench.cli import main", *calls])


# -- what is read of a class


def test_defaults_are_what_python_makes_of_them(tmp_path: Path) -> None:
    source = HEAD + (
        "LAST = False\n\n\n"
        "class Way(Enum):\n    UP = 'up'\n    DOWN = 'down'\n\n\n"
        "@dataclass(frozen=True)\nclass Mine(Method):\n"
        "    last: bool = LAST\n"
        "    third: float = 1 / 3\n"
        "    layers: tuple[int, ...] = field(default_factory=lambda: (1, 2))\n"
        "    way: Way = Way.DOWN\n"
        "    kind: Literal['a', 'b'] = 'b'\n"
        "    most: Optional[int] = None\n"
    )
    card = registry.method(written(tmp_path, source))
    assert card.parameters == {
        "last": False,
        "third": 1 / 3,
        "layers": [1, 2],
        "way": "down",
        "kind": "b",
        "most": None,
    }
    built = registry.build_method(f"{tmp_path / 'mine.py'}:Mine", way="up", layers=[3])
    assert built.way.name == "UP" and built.layers == (3,)  # type: ignore[attr-defined]
    with pytest.raises(UsageError, match=r"unknown method.way 'left'. Known: down, up"):
        compose_cells([f"method={tmp_path / 'mine.py'}:Mine", "method.way=left"], sweep=False)
    (cell,) = compose_cells([f"method={tmp_path / 'mine.py'}:Mine"], sweep=False)
    assert (cell.method["last"], cell.method["third"]) == (False, 1 / 3)


def test_what_only_python_code_can_fill_is_no_parameter(tmp_path: Path) -> None:
    source = MINE + "    rule: object = max\n    share: object = Fraction(1, 3)\n"
    source = source.replace("from enum", "from fractions import Fraction\nfrom enum")
    card = registry.method(written(tmp_path, source))
    assert card.parameters == {"share": "1/3"}
    assert registry.build_method(f"{tmp_path / 'mine.py'}:Mine").share == Fraction(1, 3)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (MINE + "    layer: int = = 2\n", "mine.py line 8: layer: int = = 2: invalid syntax"),
        ("import nothing_like_it\n" + MINE + "    pass\n", "mine.py line 1: import nothing_like_it: ModuleNotFoundError: No module named 'nothing_like_it'"),
        (MINE + "    layers: list[int] = []\n", "mine.py line 6: @dataclass(frozen=True): ValueError: mutable default <class 'list'> for field layers"),
        (MINE + "    layer: int\n", "mine.py line 8: Mine has no default for layer; give every field one"),
        (MINE + "    layer: int\n    more: int = 2\n    share: float\n", "mine.py line 6: @dataclass(frozen=True): TypeError: non-default argument 'share' follows default"),
        (HEAD + "class Mine(Method):\n    layer: int = 2\n", "mine.py line 6: Mine has fields but is no dataclass"),
        (HEAD + "class Mine:\n    pass\n", "mine.py line 6: Mine is no subclass of unibench.Method"),
        (MINE.replace("Mine", "Main") + "    pass\n", "mine.py defines no class 'Mine'. Did you mean Main? It has Main"),
        ("raise SystemExit('stop')\n" + MINE + "    pass\n", "mine.py line 1: raise SystemExit('stop'): SystemExit: stop"),
        (MINE + "    pass  # caf\xe9\n", "mine.py line 8: byte 0xe9 is no UTF-8"),
        (MINE + "    def stages(self, depth):\n        return 1 / 0\n", "PATH line 9: return 1 / 0: ZeroDivisionError"),
        (MINE + "    def stages(self, depth):\n        raise ValueError('no')\n", "PATH line 9: raise ValueError('no'): ValueError: no"),
        (MINE + "    def __post_init__(self):\n        {}['a']\n", "PATH line 9: {}['a']: KeyError: 'a'"),
        (MINE + "    def __post_init__(self):\n        self.layer = 3\n", "PATH line 9: self.layer = 3: FrozenInstanceError"),
        ("import beside\n" + MINE + "    pass\n", "beside.py line 2: TABLE[3]: KeyError: 3"),
        ("import beside2\n" + MINE + "    pass\n", "beside2.py line 1: x = = 1: invalid syntax"),
        (HEAD + "COUNT = 1 / 0\n" + MINE + "    pass\n", "mine.py line 6: COUNT = 1 / 0: ZeroDivisionError: division by zero"),
        (HEAD + "TEXT = b'\\xff'.decode()\n" + MINE + "    pass\n", "mine.py line 6: TEXT = b'\\xff'.decode(): UnicodeDecodeError"),
        (HEAD + "ROWS = open('/no/such').read()\n" + MINE + "    pass\n", "mine.py line 6: ROWS = open('/no/such').read(): FileNotFoundError"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_method_is_one_line_with_its_place(
    tmp_path: Path,
    source: str,
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from unibench.cli import main

    (tmp_path / "mine.py").write_bytes(source.encode("latin-1"))
    (tmp_path / "beside.py").write_text("TABLE = {}\nTABLE[3]\n")
    (tmp_path / "beside2.py").write_text("x = = 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert main(["plan", f"method={tmp_path / 'mine.py'}:Mine"]) == 2
    err = capsys.readouterr().err
    assert message.replace("PATH", str(tmp_path / "mine.py")) in err
    assert err.startswith(f"{tmp_path}/") or "defines no class" in err
    assert len(err.strip().splitlines()) == 1


# -- edits


def test_an_edited_file_counts_in_the_same_process(tmp_path: Path) -> None:
    name = written(tmp_path, MINE + "    layer: int = 2\n")
    before = registry.method(name)
    assert registry.build_method(name).layer == 2  # type: ignore[attr-defined]
    written(tmp_path, MINE + "    layer: int = 33\n")
    after = registry.method(name)
    assert (before.parameters, after.parameters) == ({"layer": 2}, {"layer": 33})
    assert before.source != after.source
    assert registry.build_method(name).layer == 33  # type: ignore[attr-defined]


def test_an_edited_helper_counts_in_the_next_process_and_asks_for_it_in_this_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    helper = tmp_path / "its_helper.py"
    helper.write_text("LAYER = 2\n")
    name = written(tmp_path, "import its_helper\n" + MINE + "    layer: int = its_helper.LAYER\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    context = multiprocessing.get_context("fork")
    edited, answer = context.Event(), context.SimpleQueue()

    def look() -> None:
        edited.wait()
        answer.put(registry.method(name).parameters)

    # forked before this process imports the helper; it shares the cache on disk alone
    later = context.Process(target=look, daemon=True)
    later.start()
    assert registry.method(name).parameters == {"layer": 2}  # which the cache remembers
    assert registry.build_method(name).layer == 2  # type: ignore[attr-defined]
    helper.write_text("LAYER = 33\n")
    with pytest.raises(UsageError, match=r"its_helper.py was edited .* restart Python"):
        registry.build_method(name)
    edited.set()
    later.join()
    assert later.exitcode == 0 and answer.get() == {"layer": 33}


# -- the cache


def test_a_cache_that_cannot_be_used_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def ask(package: str, digest: str) -> dict[str, registry.Card]:
        asked.append(package)
        return dict(expected)

    expected = registry.families()
    monkeypatch.setattr(lookup, "_asked", ask)
    blocked = tmp_path / "file"
    blocked.write_text("no folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(blocked))
    assert lookup._index("models") == lookup._index("models") == expected
    assert asked == ["models"] * 2
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert lookup._index("models") == lookup._index("models") == expected
    assert len(asked) == 3  # then it was remembered
    (stored,) = (tmp_path / "cache" / "unibench").iterdir()
    whole = stored.read_text()
    for damaged in (whole[:100], "[]", "{}", '{"cards": {"llava": {"kind": "MethodCard"}}}'):
        stored.write_text(damaged)
        assert lookup._index("models") == expected
        assert stored.read_text() == whole
    stored.unlink()
    stored.mkdir()  # nothing can be put in its place
    assert lookup._index("models") == expected


def test_what_is_remembered_is_what_was_asked() -> None:
    """A card that went through the cache equals the one that was just made."""
    remembered = {"methods": lookup._own_methods(), "models": registry.families()}
    for package, cards in remembered.items():
        asked = lookup._asked(package, registry.core_digest())
        assert asked.keys() == cards.keys()
        for name, card in asked.items():
            assert to_plain(from_plain(to_plain(card))) == to_plain(card) == to_plain(cards[name])


def test_files_that_no_command_asked_for_in_weeks_are_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    jsoncache.write("old", {"a": 1})
    old = tmp_path / "unibench" / "old.json"
    os.utime(old, (1, 1))
    jsoncache.write("new", {"b": 2})
    assert not old.exists()
    assert jsoncache.read("new") == {"b": 2}
    assert [file.name for file in old.parent.iterdir()] == ["new.json"]


# -- methods from elsewhere


def installed(folder: Path, points: dict[str, str]) -> None:
    """A package with entry points, as pip would leave it in a folder."""
    info = folder / "guests-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: guests\nVersion: 1.0\n")
    lines = [f"{name} = {target}" for name, target in points.items()]
    (info / "entry_points.txt").write_text("\n".join(["[unibench.methods]", *lines, ""]))


@pytest.mark.slow
def test_an_installed_package_offers_methods_whatever_their_names(tmp_path: Path) -> None:
    package = tmp_path / "guests"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "good.py").write_text(MINE + "    '''Keeps mine.'''\n\n    layer: int = 7\n")
    (package / "bad.py").write_text("import nothing_like_it\n")
    installed(
        tmp_path,
        {
            "default": "guests.good:Mine",  # also the value of an option of dart
            "broken": "guests.bad:Mine",
            "gone": "guests.nowhere:Mine",
        },
    )
    done = python(
        commands(
            "list methods",
            "show method default",
            "plan method=default",
            "plan method=dart method.variant=official_bug",
            "plan method=broken",
        ),
        tmp_path,
    )
    assert "Traceback" not in done.stderr
    listed, shown, planned, other, last = done.stdout.split("exit")[:5]
    assert "Keeps mine." in listed and "divprune" in listed and "broken" not in listed
    assert '"layer": 7' in shown
    assert "default" in planned and "variant=official_bug" in other
    assert done.stdout.rstrip().endswith("exit 2") and not last.startswith(" 2")
    assert "method=broken: " in done.stderr
    assert "ModuleNotFoundError" in done.stderr


def checkout(tree: Path) -> Path:
    """The sources as git leaves them where it may make no links: those are files with a path."""
    folders = ("methods", "models", "tasks", "configs")
    for name in ("unibench", *folders):
        links = folders if name == "unibench" else ()
        ignore = shutil.ignore_patterns(*links, "__pycache__", "*.safetensors")
        shutil.copytree(ROOT / name, tree / name, ignore=ignore)
    for name in folders:
        (tree / "unibench" / name).write_text(f"../{name}")
    return tree


@pytest.mark.slow
@pytest.mark.ci_slow
def test_a_file_in_methods_is_a_method_and_nothing_else_is_needed(tmp_path: Path) -> None:
    tree = checkout(tmp_path / "tree")
    (tree / "methods" / "every_third.py").write_text(
        HEAD.replace("Method\n", "Method\n\nimport torch\n")
        + "@dataclass(frozen=True)\nclass EveryThird(Method):\n"
        '    """Keeps tokens by their number.\n\n    Code: ours.\n    """\n\n'
        "    layer: int = 3\n    category = 'ViT only'\n    aim = 'none'\n\n"
        "    def score(self, ctx):\n"
        "        return -torch.arange(len(ctx.visual)).float() % self.layer\n"
    )
    done = python(
        commands(
            "list methods",
            "show method every_third",
            "plan method=every_third method.layer=2",
            "plan method=every_third method.layer=two",
        )
        + "\nfrom unibench import registry\n"
        "print(registry.method('divprune').load().__module__)\n"
        "print(registry.category('every_third', 'aim'))\n"
        "print(registry.build_method('every_third', layer=4), registry.ROOT)\n",
        tree,
        package=tree,
    )
    listed, shown, planned, refused = done.stdout.split("exit")[:4]
    assert "every_third" in listed
    assert "cuts         ViT only" in shown and '"layer": 3' in shown
    assert "every_third" in planned and "layer=2" in planned
    assert "method.layer=two: int wanted, for example 3" in done.stderr and refused.startswith(" 0")
    names = f"unibench.methods.divprune\nnone\nEveryThird(layer=4) {tree / 'unibench'}\n"
    assert names in done.stdout, done.stderr
