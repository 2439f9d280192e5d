"""One source file as its definitions: what each binds, which names it uses, what it says.

Comments, docstrings, annotations, formatting and what stands under ``if TYPE_CHECKING`` change no
number and are taken out before anything is hashed.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TypeGuard

Dotted = tuple[str, ...]  # a dotted name as it is written: _recycling.scaled has two parts

# decorators that change nothing but what they decorate; another one may register it somewhere
PURE = (
    *("dataclass", "cache", "lru_cache", "cached_property", "contextmanager", "wraps", "overload"),
    *("total_ordering", "final", "runtime_checkable", "no_grad", "inference_mode"),
)
# names that reach code without naming it
DYNAMIC = (("eval",), ("exec",), ("globals",), ("__import__",), ("sys", "modules"))
LOADERS = ("import_module", "spec_from_file_location", "run_path", "run_module")
SCOPES = (ast.Lambda, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
# ast.dump is another text in each version of Python, and a key may not depend on that
SILENT = ("ctx", "kind", "annotation", "returns", "type_comment", "type_params", "simple")


@dataclass(frozen=True)
class Target:
    """What an import names: a module, or an attribute of it that may be a module as well."""

    module: str
    attribute: str | None = None


@dataclass(frozen=True)
class Statement:
    """A statement at the top level of a file.

    Attributes:
        digest: hash of its syntax.
        binds: names that it gives to the module.
        uses: dotted names that are none of its own variables.
        imports: what the names that it imports stand for, inside its functions too.
        loads: modules that its imports run.
        acts: whether it does more than bind names, so that it matters to the whole module.
        dynamic: whether it reaches code by a computed name.
    """

    digest: str
    binds: frozenset[str]
    uses: frozenset[Dotted]
    imports: Mapping[str, tuple[Target, ...]]
    loads: frozenset[Target]
    acts: bool
    dynamic: bool


@dataclass(frozen=True)
class Source:
    """The statements of a file.

    Attributes:
        names: the statements that bind a name, in order.
        imports: what the imported names of the module stand for.
        lazy: the same of imports under ``if TYPE_CHECKING`` in a module with ``__getattr__``: they
            say what that function finds.
        stars: modules of which everything is imported.
        loads: modules that the imports run.
        acts: the statements that do more than bind names.
    """

    names: Mapping[str, tuple[Statement, ...]]
    imports: Mapping[str, tuple[Target, ...]]
    lazy: Mapping[str, tuple[Target, ...]]
    stars: frozenset[str]
    loads: frozenset[Target]
    acts: tuple[Statement, ...]


@cache
def read(text: bytes, package: str) -> Source:
    """The statements of a file.

    Args:
        text: the whole file.
        package: where its relative imports start.

    Raises:
        SyntaxError: the file is no Python.
        ValueError: it holds null bytes.
    """
    tree = ast.parse(text)
    typed = [entry for node in tree.body if _is_typing(node) for entry in node.body]
    _Bare().visit(tree)
    module, lazy = _Names(package), _Names(package)
    names: dict[str, tuple[Statement, ...]] = {}
    statements: list[Statement] = []
    for node in tree.body:
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Assign)):
            module.visit(node)  # imports of the module, those in a try or an if too
        if not isinstance(node, (ast.Import, ast.ImportFrom)):
            statements.append(_statement(node, package))
    for statement in statements:
        for name in statement.binds:
            names[name] = (*names.get(name, ()), statement)
    for node in typed if "__getattr__" in names else ():
        lazy.visit(node)
    acts = tuple(statement for statement in statements if statement.acts)
    stars, loads = frozenset(module.stars), frozenset(module.outer_loads)
    return Source(names, module.outer_imports, lazy.outer_imports, stars, loads, acts)


def _statement(node: ast.stmt, package: str) -> Statement:
    names = _Names(package)
    names.visit(node)
    return Statement(
        digest=hashlib.blake2b(_text(node).encode(), digest_size=8).hexdigest(),
        binds=frozenset(names.binds),
        uses=frozenset(names.uses),
        imports=names.imports,
        loads=frozenset(names.loads),
        acts=_acts(node),
        dynamic=names.dynamic,
    )


def _text(node: object) -> str:
    """The syntax below a node, without what is empty."""
    if isinstance(node, list):
        return f"[{','.join(map(_text, node))}]"
    if not isinstance(node, ast.AST):
        return repr(node)
    fields = [(name, getattr(node, name, None)) for name in node._fields if name not in SILENT]
    full = [f"{name}={_text(value)}" for name, value in fields if value is not None and value != []]
    return f"{type(node).__name__}({','.join(full)})"


def _acts(node: ast.stmt) -> bool:
    """Whether a statement may change something beside the names that it binds."""
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return any((_dotted(entry) or ("?",))[-1] not in PURE for entry in node.decorator_list)
    if isinstance(node, (ast.Assign, ast.AugAssign)):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        parts = [part for target in targets for part in ast.walk(target)]
        return any(isinstance(part, (ast.Attribute, ast.Subscript)) for part in parts)
    return True


def _dotted(node: ast.AST) -> Dotted | None:
    """The dotted name that an expression, or the function that it calls, is; None for another."""
    attributes: list[str] = []
    node = node.func if isinstance(node, ast.Call) else node
    while isinstance(node, ast.Attribute):
        attributes.append(node.attr)
        node = node.value
    return (node.id, *reversed(attributes)) if isinstance(node, ast.Name) else None


def _is_typing(node: ast.stmt) -> TypeGuard[ast.If]:
    return isinstance(node, ast.If) and (_dotted(node.test) or ("",))[-1] == "TYPE_CHECKING"


class _Field(ast.stmt):
    """A field of a dataclass, whatever its type."""

    _fields = ("target", "value")

    def __init__(self, entry: ast.AnnAssign) -> None:
        super().__init__()
        self.target, self.value = entry.target, entry.value


class _Bare(ast.NodeTransformer):
    """Takes out of a tree what is there for readers and for type checkers."""

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        return None if isinstance(node.value, ast.Constant) else self.generic_visit(node)

    def visit_Pass(self, node: ast.Pass) -> None:
        return None

    def visit_If(self, node: ast.If) -> ast.AST | list[ast.stmt]:
        self.generic_visit(node)
        return node.orelse if _is_typing(node) else node

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        # whether a name is a field is no annotation: it decides what the class is built with
        bare = bool(node.decorator_list) or any(
            (_dotted(base) or ("",))[-1] == "NamedTuple" for base in node.bases
        )
        for place, entry in enumerate(node.body):
            if not isinstance(entry, ast.AnnAssign) or "ClassVar" in ast.unparse(entry.annotation):
                continue
            if bare or entry.value is not None:
                node.body[place] = _Field(entry)
        return self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST | None:
        if node.value is None:
            return None
        return self.generic_visit(ast.Assign(targets=[node.target], value=node.value))

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.returns = None
        return self.generic_visit(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AST:
        node.returns = None
        return self.generic_visit(node)

    def visit_JoinedStr(self, node: ast.JoinedStr) -> ast.AST:
        # Python 3.12.0 and 3.12.1 end a nested format with an empty text
        node.values = [part for part in node.values if getattr(part, "value", None) != ""]
        return self.generic_visit(node)

    def visit_arg(self, node: ast.arg) -> ast.AST:
        node.annotation = None
        return node


class _Names(ast.NodeVisitor):
    """Collects the names that code binds, imports, and uses without having bound them itself."""

    def __init__(self, package: str) -> None:
        self.package = package
        self.binds: set[str] = set()
        self.uses: set[Dotted] = set()
        self.imports: dict[str, tuple[Target, ...]] = {}
        self.outer_imports: dict[str, tuple[Target, ...]] = {}
        self.loads: set[Target] = set()
        self.outer_loads: set[Target] = set()
        self.stars: set[str] = set()
        self.dynamic = False
        self._scopes: list[set[str]] = []

    def visit_Name(self, node: ast.Name) -> None:
        if isinstance(node.ctx, ast.Load):
            self._use((node.id,))
        else:
            self._bind(node.id)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        if (dotted := _dotted(node)) is None:
            self.generic_visit(node)
        else:
            self._use(dotted)

    def visit_Call(self, node: ast.Call) -> None:
        dotted = _dotted(node)
        if dotted and dotted[-1] == "import_module" and len(node.args) == 1:
            named = node.args[0]
            if isinstance(named, ast.Constant) and isinstance(named.value, str):
                alias = f"import_module {named.value}"
                self._import(alias, Target(named.value))
                self._use((alias,))
                return
        self.generic_visit(node)

    def visit_Global(self, node: ast.Global) -> None:
        # a global that a function sets is the module's, although it is bound here
        self.uses.update((name,) for name in node.names)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self._function(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
        self._function(node)

    def visit_Lambda(self, node: ast.Lambda) -> None:
        self._outside([*node.args.defaults, *node.args.kw_defaults])
        self._inside(_variables(node.args, [node.body]), [node.body])

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self._bind(node.name)
        self._outside([*node.decorator_list, *node.bases, *node.keywords])
        # the names of a class are not those of its methods
        self._inside(set(), node.body)

    def visit_ListComp(self, node: ast.ListComp) -> None:
        self._comprehension(node.generators, [node.elt])

    def visit_SetComp(self, node: ast.SetComp) -> None:
        self._comprehension(node.generators, [node.elt])

    def visit_GeneratorExp(self, node: ast.GeneratorExp) -> None:
        self._comprehension(node.generators, [node.elt])

    def visit_DictComp(self, node: ast.DictComp) -> None:
        self._comprehension(node.generators, [node.key, node.value])

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            top = alias.name.partition(".")[0]
            self._import(alias.asname or top, Target(alias.name if alias.asname else top))
            self._load(Target(alias.name))

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        # level 1 is the package itself
        above = self.package.split(".")[: len(self.package.split(".")) - node.level + 1]
        inside = [".".join(above) or "?"] if node.level else []
        module = ".".join([*inside, *([node.module] if node.module else [])])
        for alias in node.names:
            if alias.name == "*":
                self.stars.add(module)
                self._load(Target(module))
            else:
                self._import(alias.asname or alias.name, Target(module, alias.name))

    def _import(self, name: str, target: Target) -> None:
        self.imports[name] = (*self.imports.get(name, ()), target)
        if not self._scopes:
            self.outer_imports[name] = (*self.outer_imports.get(name, ()), target)
        self._load(target)

    def _load(self, target: Target) -> None:
        self.loads.add(target)
        if not self._scopes:
            self.outer_loads.add(target)

    def _bind(self, name: str) -> None:
        if not self._scopes:
            self.binds.add(name)

    def _use(self, dotted: Dotted) -> None:
        if not any(dotted[0] in scope for scope in self._scopes):
            self.uses.add(dotted)
            self.dynamic |= dotted[-1] in LOADERS or any(
                dotted[: len(name)] == name for name in DYNAMIC
            )

    def _outside(self, nodes: Iterable[ast.AST | None]) -> None:
        for node in nodes:
            if node is not None:
                self.visit(node)

    def _inside(self, variables: set[str], nodes: Sequence[ast.AST]) -> None:
        self._scopes.append(variables)
        self._outside(nodes)
        self._scopes.pop()

    def _function(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        self._bind(node.name)
        self._outside([*node.decorator_list, *node.args.defaults, *node.args.kw_defaults])
        self._inside(_variables(node.args, node.body), node.body)

    def _comprehension(self, loops: list[ast.comprehension], values: list[ast.expr]) -> None:
        self.visit(loops[0].iter)  # the first is computed outside
        targets = [part for loop in loops for part in ast.walk(loop.target)]
        variables = {part.id for part in targets if isinstance(part, ast.Name)}
        conditions = [condition for loop in loops for condition in loop.ifs]
        self._inside(variables, [*(loop.iter for loop in loops[1:]), *conditions, *values])


def _variables(arguments: ast.arguments, body: Sequence[ast.AST]) -> set[str]:
    """The variables of a function, without those of the functions inside it."""
    given = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    given += [entry for entry in (arguments.vararg, arguments.kwarg) if entry is not None]
    found, shared = {entry.arg for entry in given}, set[str]()
    nodes = list(body)
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.Global):
            shared.update(node.names)
        elif isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            found.add(node.id)
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            found.add(node.name)
            continue
        elif isinstance(node, SCOPES):
            continue
        elif isinstance(node, (ast.ExceptHandler, ast.MatchAs, ast.MatchStar)) and node.name:
            found.add(node.name)
        nodes += ast.iter_child_nodes(node)
    return found - shared
