"""What a digest of code covers: everything that is reached, and nothing else."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from unibench.code.closure import WHOLE, Code
from unibench.errors import UsageError

Files = Mapping[str, str]
METHOD = "class Method:\n    def select(self): return best(self)\n"


def written(folder: Path, files: Files) -> Path:
    for name, text in files.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return folder


def digest(folder: Path, files: Files, root: str = "unibench.mine:Method") -> str:
    written(folder, {"unibench/__init__.py": "", **files})
    return Code(folder / "unibench").reach([root]).digest


@pytest.fixture
def changes(tmp_path: Path):  # type: ignore[no-untyped-def]
    """Whether an edit of files changes the digest of ``unibench.mine:Method``."""

    def changed(before: Files, after: Files) -> bool:
        old = digest(tmp_path / "a", before)
        return old != digest(tmp_path / "b", {**before, **after})

    return changed


def test_whether_an_optional_library_is_installed_is_in_no_digest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use = "import few_have\nclass Method:\n    def select(self): return few_have.best(self)\n"
    own = written(tmp_path, {"unibench/__init__.py": "", "unibench/mine.py": use, "own.py": use})
    roots = ["unibench.mine:Method"], [f"{own / 'own.py'}:Method"]
    (ours, theirs) = (Code(own / "unibench").reach(root) for root in roots)
    assert not ours.missing
    assert theirs.missing == {"missing few_have.best"}, "it may be a module beside it, one day"
    written(tmp_path / "site-packages", {"few_have.py": "def best(x): return x\n"})
    monkeypatch.syspath_prepend(str(tmp_path / "site-packages"))
    assert Code(own / "unibench").reach(roots[0]).digest == ours.digest


def test_a_module_of_the_package_that_is_gone_is_missing(tmp_path: Path) -> None:
    use = "from unibench.gone import best\nclass Method:\n    def select(self): return best(1)\n"
    own = written(tmp_path, {"unibench/__init__.py": "", "unibench/mine.py": use})
    (name,) = Code(own / "unibench").reach(["unibench.mine:Method"]).missing
    assert name.startswith("missing unibench.gone")


BODY = '''"""Words."""
from __future__ import annotations
import math
from typing import ClassVar

LIMIT = 3


class Method:
    """Words."""

    layer: int = 2
    """Words about layer."""
    adaptive: ClassVar[bool] = True

    def select(self, given: int, *, more: float = 1.0) -> int:
        """Words."""
        found: int = given + LIMIT
        text = f"a{found}b" "c"
        return math.floor(found * more) + len(text)
'''


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"""Words."""', '"""Other words."""'),
        ('"""Words."""\n\n    layer', "# a comment\n    layer"),
        ('    """Words about layer."""\n', ""),
        ("layer: int = 2", 'layer: "float | None" = 2'),
        ("given: int,", "given,"),
        ("more: float = 1.0) -> int:", "more = 1.0):"),
        ("found: int = given", "found = given"),
        ("found: int = given", "found: float = given"),
        ("adaptive: ClassVar[bool] = True", "adaptive = True"),
        ("return math.floor(found * more) + len(text)", "return (\n            math.floor((found) * more)\n            + len(text)  # why\n        )"),
        ('f"a{found}b" "c"', 'f"a{found}" f"bc"'),
        ("LIMIT = 3", "LIMIT: Final = 3"),
        ("LIMIT = 3", "LIMIT = (3)\n\n\ndef nobody():\n    return LIMIT"),
        ("import math", "import math\nimport json"),
        ("from typing import ClassVar", "from typing import TYPE_CHECKING, ClassVar\nif TYPE_CHECKING:\n    from collections.abc import Sequence"),
    ],
)  # fmt: skip
def test_words_annotations_formatting_and_what_nobody_reaches_change_nothing(
    changes, old: str, new: str
) -> None:
    assert old in BODY
    assert not changes({"unibench/mine.py": BODY}, {"unibench/mine.py": BODY.replace(old, new, 1)})


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("LIMIT = 3", "LIMIT = 4"),
        ("LIMIT = 3", "LIMIT = 3\nLIMIT += 1"),
        ("LIMIT = 3", "LIMIT = 3.0"),
        ("more: float = 1.0", "more: float = 2.0"),
        ("layer: int = 2", "layer: int = 3"),
        ("layer: int = 2", "layer: ClassVar[int] = 2"),
        ("math.floor", "math.ceil"),
        ("import math", "import cmath as math"),
        ("class Method:", "class Method(Base):"),
        ("class Method:", "@total\nclass Method:"),
        ("return math.floor(found * more)", "return -math.floor(found * more)"),
        ('"a{found}b"', '"{found}b"'),
    ],
)
def test_what_is_done_differently_changes_the_digest(changes, old: str, new: str) -> None:
    assert BODY.count(old) == 1
    assert changes({"unibench/mine.py": BODY}, {"unibench/mine.py": BODY.replace(old, new)})


OPS = "def best(x): return weight(x)\ndef weight(x): return x\ndef worst(x): return -x\n"
WAYS = {
    "a name": {"unibench/mine.py": f"from unibench.ops import best\n{METHOD}"},
    "an alias": {
        "unibench/mine.py": "from unibench.ops import best as b\n" + METHOD.replace("best", "b")
    },
    "a module": {
        "unibench/mine.py": "from unibench import ops\n" + METHOD.replace("best", "ops.best")
    },
    "a module under another name": {
        "unibench/mine.py": "import unibench.ops as o\n" + METHOD.replace("best", "o.best")
    },
    "the full path": {
        "unibench/mine.py": "import unibench.ops\n" + METHOD.replace("best", "unibench.ops.best")
    },
    "a relative import": {"unibench/mine.py": f"from .ops import best\n{METHOD}"},
    "a star": {"unibench/mine.py": f"from unibench.ops import *\n{METHOD}"},
    "an import in the function": {
        "unibench/mine.py": METHOD.replace(
            "return", "\n        from unibench.ops import best\n        return"
        )
    },
    "an import that may fail": {
        "unibench/mine.py": f"try:\n    from unibench.ops import best\nexcept ImportError:\n    best = None\n{METHOD}"
    },
    "a package that hands it on": {
        "unibench/mine.py": f"from unibench.tools import best\n{METHOD}",
        "unibench/tools/__init__.py": "from unibench.tools.inner import best as best\n",
        "unibench/tools/inner.py": "from ..ops import best\n",
    },
    "a name that is found lazily": {
        "unibench/mine.py": f"from unibench.lazy import best\n{METHOD}",
        "unibench/lazy.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from unibench.ops import best\ndef __getattr__(name): ...\n",
    },
    "a base class": {
        "unibench/mine.py": "from unibench.base import Base\nclass Method(Base): pass\n",
        "unibench/base.py": "from unibench.ops import best\nclass Base:\n    def select(self): return best(self)\n",
    },
    "a default value": {
        "unibench/mine.py": "from unibench.ops import best\nclass Method:\n    def select(self, rank=best): return rank(self)\n"
    },
    "a decorator": {
        "unibench/mine.py": "from unibench.ops import best\nclass Method:\n    @best\n    def select(self): return 1\n"
    },
    "a table": {
        "unibench/mine.py": f"from unibench.ops import best as b\nTABLE = {{'x': b}}\n{METHOD.replace('best', 'TABLE.get')}"
    },
    "a name made again": {
        "unibench/mine.py": f"from unibench.ops import best\nbest = twice(best)\n{METHOD}"
    },
    "a global": {
        "unibench/mine.py": f"from unibench.ops import best as b\nbest = b\n{METHOD.replace('return', 'global best; return')}"
    },
}


@pytest.mark.parametrize("way", WAYS)
def test_a_helper_of_a_helper_counts_however_it_is_reached(changes, way: str) -> None:
    before = {"unibench/ops.py": OPS, **WAYS[way]}
    edited = {"unibench/ops.py": OPS.replace("return x", "return 2 * x")}
    assert changes(before, edited)
    unreached = {"unibench/ops.py": OPS.replace("return -x", "return -2 * x")}
    assert not changes(before, unreached)


def test_two_imports_that_change_places_change_the_digest(changes) -> None:
    mine = "from unibench.ops import best, worst\nclass Method:\n    def select(self): return best(self) - worst(self)\n"
    swapped = mine.replace("import best, worst", "import worst as best, best as worst")
    assert changes(
        {"unibench/ops.py": OPS, "unibench/mine.py": mine}, {"unibench/mine.py": swapped}
    )


@pytest.mark.parametrize(
    "inside",
    [
        "def select(self, worst): return worst(self)",
        "def select(self):\n        worst = 1\n        return worst",
        "def select(self): return [worst for worst in self]",
        "def select(self): return (lambda worst: worst)(1)",
        "def select(self):\n        def worst(): return 1\n        return worst()",
        "def select(self):\n        for worst in self: print(worst)",
        "def select(self):\n        try: pass\n        except ValueError as worst: print(worst)",
        "def select(self): return self.worst",
    ],
)
def test_a_variable_with_the_name_of_a_function_does_not_reach_it(changes, inside: str) -> None:
    before = {
        "unibench/ops.py": OPS,
        "unibench/mine.py": f"from unibench.ops import worst\nclass Method:\n    {inside}\n",
    }
    assert not changes(before, {"unibench/ops.py": OPS.replace("-x", "-2 * x")})


def test_a_variable_of_an_inner_function_does_not_hide_what_the_outer_one_reaches(changes) -> None:
    inside = "def select(self):\n        def inner(): worst = 1\n        return worst(self)"
    before = {
        "unibench/ops.py": OPS,
        "unibench/mine.py": f"from unibench.ops import worst\nclass Method:\n    {inside}\n",
    }
    assert changes(before, {"unibench/ops.py": OPS.replace("-x", "-2 * x")})


@pytest.mark.parametrize(
    "statement",
    [
        "TABLE.append(worst)",
        "TABLE[0] = worst",
        "best.rank = worst",
        "for name in 'ab': TABLE.append(worst)",
        "@register('worst')\ndef inner(x): return worst(x)",
        "if TABLE: TABLE.append(worst)",
    ],
)
def test_what_an_imported_module_does_counts_where_no_name_leads_to_it(
    changes, statement: str
) -> None:
    ops = f"TABLE = []\ndef register(name): return TABLE.append\n{OPS}{statement}\n"
    before = {"unibench/ops.py": ops, **WAYS["a name"]}
    assert changes(before, {"unibench/ops.py": ops.replace("-x", "-2 * x")})


def test_a_module_that_is_imported_for_what_it_does_counts(changes) -> None:
    before = {
        "unibench/mine.py": "import unibench.patch\nclass Method: pass\n",
        "unibench/patch.py": "import torch\ntorch.set_num_threads(1)\ndef unused(): return 1\n",
    }
    assert changes(before, {"unibench/patch.py": "import torch\ntorch.set_num_threads(2)\n"})
    assert not changes(
        before, {"unibench/patch.py": before["unibench/patch.py"].replace("return 1", "return 2")}
    )


@pytest.mark.parametrize(
    "mine",
    [
        "from unibench import ops\nclass Method:\n    def select(self): return getattr(ops, self.rank)",
        "import unibench.ops as o\nclass Method:\n    modules = (o,)",
        "from importlib import import_module\nclass Method:\n    def select(self): return import_module('unibench.ops')",
        "import importlib\nclass Method:\n    def select(self): return importlib.import_module('unibench.ops').best",
        "from unibench.ops import computed\nclass Method:\n    def select(self): return computed",
    ],
)
def test_a_module_used_as_a_value_counts_as_a_whole(changes, mine: str) -> None:
    before = {"unibench/ops.py": OPS, "unibench/mine.py": f"{mine}\n"}
    assert changes(before, {"unibench/ops.py": OPS.replace("-x", "-2 * x")})


@pytest.mark.parametrize(
    "computed",
    [
        "globals()[name]",
        "eval(name)",
        "import_module(name)",
        "sys.modules[__name__]",
        "__import__(name)",
    ],
)
def test_a_module_that_computes_names_counts_as_a_whole(changes, computed: str) -> None:
    mine = f"import sys\nfrom importlib import import_module\ndef hidden(): return 1\nclass Method:\n    def select(self, name): return {computed}\n"
    assert changes(
        {"unibench/mine.py": mine}, {"unibench/mine.py": mine.replace("return 1", "return 2")}
    )


def test_modules_that_import_each_other_come_to_an_end(tmp_path: Path) -> None:
    files = {
        "unibench/mine.py": f"from unibench.ops import best\n{METHOD}",
        "unibench/ops.py": "from unibench.mine import Method\nfrom unibench.more import best\n",
        "unibench/more.py": "from unibench.ops import best\n",
    }
    assert digest(tmp_path, files)


def test_modules_outside_are_named_and_not_followed(tmp_path: Path) -> None:
    written(tmp_path, {"unibench/__init__.py": "", "unibench/ops.py": OPS, **WAYS["a name"]})
    code = Code(tmp_path / "unibench", outside=["unibench.ops"])
    assert not any("ops" in name for name in code.reach(["unibench.mine:Method"]).digests)


def test_a_definition_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(LookupError, match="mine does not define Nobody"):
        digest(tmp_path, {"unibench/mine.py": METHOD}, "unibench.mine:Nobody")


def test_the_whole_of_a_module_can_be_asked_for(tmp_path: Path) -> None:
    files = {"unibench/ops.py": OPS}
    first = digest(tmp_path / "a", files, f"unibench.ops:{WHOLE}")
    edited = {"unibench/ops.py": OPS.replace("-x", "-2 * x")}
    assert first != digest(tmp_path / "b", edited, f"unibench.ops:{WHOLE}")


# -- files of one's own


MINE = "from helper import rank\nclass Mine:\n    def score(self, ctx): return rank(ctx)\n"
HELPER = "from inner.deep import sign\ndef rank(ctx): return sign(ctx)\ndef other(): return 1\n"
DEEP = "def sign(ctx): return -1\n"


@pytest.fixture
def own(tmp_path: Path) -> Path:
    return written(
        tmp_path / "own",
        {"mine.py": MINE, "helper.py": HELPER, "inner/__init__.py": "", "inner/deep.py": DEEP},
    )


def test_what_lies_beside_a_file_of_ones_own_counts_at_any_depth_and_at_once(own: Path) -> None:
    code, root = Code(), [f"{own / 'mine.py'}:Mine"]
    digests = [code.digest(root)]
    for name, old, new in [
        ("inner/deep.py", "-1", "-2"),
        ("helper.py", "return sign(ctx)", "return -sign(ctx)"),
        ("mine.py", "return rank(ctx)", "return rank(ctx) + 0"),
        ("inner/__init__.py", "", "print()\n"),
    ]:
        text = (own / name).read_text()
        (own / name).write_text(text.replace(old, new, 1))
        digests.append(code.digest(root))
    assert len({*digests}) == len(digests)
    (own / "helper.py").write_text((own / "helper.py").read_text() + "# words\n")
    (own / "unused.py").write_text("x = 1\n")
    assert code.digest(root) == digests[-1]
    reach = code.reach(root)
    assert {*reach.files} == {"<mine>", "helper", "inner", "inner.deep"}


def test_what_lies_on_the_path_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(tmp_path, {"lib/helper_on_path.py": "def rank(ctx): return 1\n"})
    mine = written(tmp_path, {"mine.py": MINE.replace("helper", "helper_on_path")}) / "mine.py"
    monkeypatch.syspath_prepend(str(tmp_path / "lib"))
    first = Code().digest([f"{mine}:Mine"])
    written(tmp_path, {"lib/helper_on_path.py": "def rank(ctx): return 2\n"})
    assert Code().digest([f"{mine}:Mine"]) != first


def test_installed_packages_and_the_standard_library_do_not_count(tmp_path: Path) -> None:
    text = (
        "import json\nimport numpy as np\nclass Mine:\n    def score(self): return np.sum(json)\n"
    )
    mine = written(tmp_path, {"mine.py": text}) / "mine.py"
    assert {*Code().reach([f"{mine}:Mine"]).files} == {"<mine>"}


def test_a_module_that_is_missing_counts_once_it_is_there(own: Path) -> None:
    text = "try:\n    from absent_helper import rank\nexcept ImportError:\n    rank = None\nclass Mine:\n    def score(self): return rank\n"
    mine = written(own, {"mine.py": text}) / "mine.py"
    code = Code()
    first = code.digest([f"{mine}:Mine"])
    assert code.reach([f"{mine}:Mine"]).missing
    written(own, {"absent_helper.py": "def rank(): return 1\n"})
    assert code.digest([f"{mine}:Mine"]) != first


def test_beside_a_file_that_imports_by_a_computed_name_every_file_counts(own: Path) -> None:
    text = "import importlib\nclass Mine:\n    def score(self, name): return importlib.import_module(name)\n"
    mine = written(own, {"mine.py": text, "maybe.py": "x = 1\n"}) / "mine.py"
    first = Code().digest([f"{mine}:Mine"])
    written(own, {"maybe.py": "x = 2\n"})
    assert Code().digest([f"{mine}:Mine"]) != first


def test_a_compiled_module_counts_by_its_contents(own: Path) -> None:
    suffix = ".abi3.so" if sys.platform != "win32" else ".pyd"
    mine = written(own, {"mine.py": MINE.replace("helper", "fast_helper")}) / "mine.py"
    (own / f"fast_helper{suffix}").write_bytes(b"one")
    first = Code().digest([f"{mine}:Mine"])
    (own / f"fast_helper{suffix}").write_bytes(b"two")
    assert Code().digest([f"{mine}:Mine"]) != first


def test_a_method_of_an_installed_package_reaches_the_rest_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "site-packages"
    files = {
        "plugin_of_a_test/__init__.py": "",
        "plugin_of_a_test/method.py": "from . import tools\nclass Mine:\n    def score(self): return tools.rank()\n",
        "plugin_of_a_test/tools.py": "def rank(): return 1\n",
    }
    written(place, files)
    monkeypatch.syspath_prepend(str(place))
    first = Code().reach(["plugin_of_a_test.method:Mine"])
    assert "plugin_of_a_test.tools:rank" in first.digests
    written(place, {"plugin_of_a_test/tools.py": "def rank(): return 2\n"})
    assert Code().reach(["plugin_of_a_test.method:Mine"]).digest != first.digest


@pytest.mark.parametrize("text", ["def rank(:\n", "x = '\0'\n"])
def test_a_helper_that_is_no_python_is_named_with_its_line(own: Path, text: str) -> None:
    written(own, {"helper.py": text})
    with pytest.raises(UsageError, match=r"helper\.py( line 1)?: "):
        Code().digest([f"{own / 'mine.py'}:Mine"])


def test_the_text_that_is_hashed_leaves_out_what_versions_of_python_disagree_on() -> None:
    import ast

    from unibench.code import source

    tree = ast.parse("def f(x, w):\n    return f'{x:{w}}'\n")
    function = tree.body[0]
    assert isinstance(function, ast.FunctionDef)
    (spec,) = [node for node in ast.walk(tree) if isinstance(node, ast.FormattedValue)][:1]
    assert isinstance(spec.format_spec, ast.JoinedStr)
    before = source._text(source._Bare().visit(ast.parse(ast.unparse(tree))))
    spec.format_spec.values.append(ast.Constant(""))
    assert source._text(source._Bare().visit(tree)) == before
    assert not any(word in before for word in ("type_params", "ctx", "kind", "type_comment"))
