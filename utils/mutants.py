# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""Small faults in Python code, drawn at random: an operator, a constant, a comparison, an argument that is another.

A fault is found and made in the syntax tree, and named by its function, its kind and its number among those of that
kind there, such as `masking:random_mask:comparison:0`. Code that changes elsewhere, or a module that moves to another
folder, changes no name; and as each name has a rank of its own, drawn from the seed, the faults drawn before stay
drawn.

What is never touched: docstrings and all other strings, with them the messages; what stands behind `raise`, and what
is done on a GPU only; calls of a logger and progress bars; type hints and decorators; keywords of `UNTOUCHED`,
defaults of `UNTOUCHED_DEFAULTS`, and the order of arguments that have none.
"""

import ast
import functools
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

# Keywords that change nothing that a test on one CPU could see.
UNTOUCHED = {
    "device": "tests run on a CPU",
    "encoding": "UTF-8 is what the system has anyway",
    "metadata": "help texts",
    "strict": "a guard against what does not happen",
    "desc": "a progress bar",
    "disable": "a progress bar",
    "check_available": "tests run on a CPU",
}
# Parameters whose default changes no result.
UNTOUCHED_DEFAULTS = {"batch_size": "how many go at a time"}
# Functions whose arguments have no order.
COMMUTATIVE = {"max", "min", "torch.maximum", "torch.minimum", "np.maximum", "np.minimum"}
OPERATORS = {
    ast.Add: (ast.Sub,),
    ast.Sub: (ast.Add,),
    ast.Mult: (ast.Div, ast.Add),
    ast.Div: (ast.Mult, ast.Sub),
    ast.FloorDiv: (ast.Mult, ast.Mod),
    ast.Mod: (ast.FloorDiv, ast.Mult),
    ast.Pow: (ast.Mult,),
    ast.BitAnd: (ast.BitOr,),
    ast.BitOr: (ast.BitAnd,),
    ast.LShift: (ast.RShift,),
    ast.RShift: (ast.LShift,),
}
COMPARISONS = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
KINDS = (
    "operator", "comparison", "logic", "condition", "constant", "sign", "order", "keyword", "values", "attribute",
    "statement",
)  # fmt: skip


@dataclass(frozen=True)
class Mutant:
    """A fault.

    Args:
        module (`str`): Path of the module below the package, without its ending, such as `metrics/captions`.
        function (`str`): Where in it, such as `Class.method`; empty at the level of the module.
        kind (`str`): Of `KINDS`.
        number (`int`): Among those of its kind in its function, in the order of the text.
        line (`int`): Where it stands.
        before (`str`): The code as it is.
        after (`str`): The code with the fault.
    """

    module: str
    function: str
    kind: str
    number: int
    line: int
    before: str
    after: str

    @property
    def name(self) -> str:
        """What it is called by, whatever else changes in the module."""
        return f"{Path(self.module).name}:{self.function}:{self.kind}:{self.number}"

    @property
    def change(self) -> str:
        """What is changed into what."""
        return f"`{self.before}` -> `{self.after}`"

    def __str__(self) -> str:
        return f"{self.name} (line {self.line}): {self.change}"


@dataclass(frozen=True)
class Site:
    """A place where a fault can be made.

    Args:
        function (`str`): See [`Mutant`].
        kind (`str`): See [`Mutant`].
        node (`ast.AST`): What is replaced.
        replace (`Callable`): Puts another node there.
        others (`tuple[Callable, ...]`): Each makes a node that could stand there; one is drawn.
    """

    function: str
    kind: str
    node: ast.AST
    replace: Callable[[ast.AST], None]
    others: tuple[Callable[[], ast.AST], ...]


def rank(seed: int, name: str) -> int:
    """A number of 64 bits that is a pure function of the seed and a name."""
    return int.from_bytes(hashlib.blake2b(f"{seed}/{name}".encode(), digest_size=8).digest(), "little")


def _copy(node: ast.AST, **changes) -> ast.AST:
    """The node with other fields, its place in the text kept."""
    fields = {name: getattr(node, name, None) for name in node._fields}
    return ast.copy_location(type(node)(**(fields | changes)), node)


def _constants(node: ast.Constant) -> tuple[Callable[[], ast.AST], ...]:
    value = node.value
    if isinstance(value, bool):
        others = [not value]
    elif isinstance(value, int):
        others = [value + 1] if value == 0 else [value + 1, value - 1]
    elif isinstance(value, float):
        if value in (0.0, 1.0):
            others = [1.0 - value]
        else:  # twice a small tolerance would be as good as it was
            others = [2 * value, value / 2] if abs(value) >= 1e-3 else [1e3 * value]
    else:
        others = []
    return tuple(lambda other=other: _copy(node, value=other) for other in others)


def _of_operators(parent: ast.AST, field: str, node: ast.AST) -> Iterator[tuple[str, tuple[Callable, ...]]]:
    """Faults in arithmetic and logic."""
    if isinstance(node, ast.BinOp | ast.AugAssign):
        swaps = OPERATORS.get(type(node.op), ())
        yield "operator", tuple(lambda op=op: _copy(node, op=op()) for op in swaps)
    if isinstance(node, ast.Compare) and len(node.ops) == 1:
        swaps = COMPARISONS[type(node.ops[0])]
        yield "comparison", tuple(lambda op=op: _copy(node, ops=[op()]) for op in swaps)
    if isinstance(node, ast.BoolOp):
        other = ast.Or if isinstance(node.op, ast.And) else ast.And
        yield "logic", (lambda: _copy(node, op=other()),)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not | ast.Invert):
        yield "logic", (lambda: node.operand,)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        yield "sign", (lambda: node.operand,)
    if field == "test" and isinstance(parent, ast.If | ast.IfExp) and not _is_negated_anyway(node):
        yield "condition", (lambda: ast.copy_location(ast.UnaryOp(ast.Not(), node), node),)


def _of_call(node: ast.Call) -> Iterator[tuple[str, tuple[Callable[[], ast.AST], ...]]]:
    """Faults in the arguments of a call."""
    plain = [i for i, argument in enumerate(node.args) if not isinstance(argument, ast.Starred)]
    pairs = [(i, i + 1) for i in plain if i + 1 in plain and ast.dump(node.args[i]) != ast.dump(node.args[i + 1])]

    def swapped(i: int, j: int) -> ast.AST:
        arguments = list(node.args)
        arguments[i], arguments[j] = arguments[j], arguments[i]
        return _copy(node, args=arguments)

    if pairs and ast.unparse(node.func) not in COMMUTATIVE:
        yield "order", tuple(lambda pair=pair: swapped(*pair) for pair in pairs)
    named = [i for i, keyword in enumerate(node.keywords) if keyword.arg and keyword.arg not in UNTOUCHED]

    def without(i: int) -> ast.AST:
        return _copy(node, keywords=node.keywords[:i] + node.keywords[i + 1 :])

    if named:
        yield "keyword", tuple(lambda i=i: without(i) for i in named)

    def exchanged(i: int, j: int) -> ast.AST:
        keywords = list(node.keywords)
        keywords[i] = _copy(node.keywords[i], value=node.keywords[j].value)
        keywords[j] = _copy(node.keywords[j], value=node.keywords[i].value)
        return _copy(node, keywords=keywords)

    pairs = [
        (i, j)
        for i in named
        for j in named
        if i < j and ast.dump(node.keywords[i].value) != ast.dump(node.keywords[j].value)
    ]
    if pairs:
        yield "values", tuple(lambda pair=pair: exchanged(*pair) for pair in pairs)


class Finder:
    """Finds the places of a module where a fault can be made, in the order of the text.

    Args:
        tree (`ast.Module`): The module.
    """

    def __init__(self, tree: ast.Module):
        self.sites: list[Site] = []
        self._attributes: dict[tuple[str, str], set[str]] = {}
        for owner, node in self._attributes_of(tree, ""):
            self._attributes.setdefault((owner, ast.unparse(node.value)), set()).add(node.attr)
        self._walk(tree, "", "")

    def _attributes_of(self, node: ast.AST, owner: str) -> Iterator[tuple[str, ast.Attribute]]:
        """Attributes that are read and not called, with the class around them."""
        called = {id(child.func) for child in ast.walk(node) if isinstance(child, ast.Call)}

        def visit(node: ast.AST, owner: str):
            for child in ast.iter_child_nodes(node):
                if isinstance(child, ast.Attribute) and isinstance(child.ctx, ast.Load) and id(child) not in called:
                    yield owner, child
                yield from visit(child, child.name if isinstance(child, ast.ClassDef) else owner)

        return visit(node, owner)

    def _walk(self, node: ast.AST, function: str, owner: str):
        """Children in the order of the text; `owner` is the class around them."""
        left_alone = _untouched_defaults(node) if isinstance(node, ast.arguments) else set()
        for name, value in ast.iter_fields(node):
            if name in ("decorator_list", "returns", "annotation", "bases", "type_params"):
                continue
            items = value if isinstance(value, list) else [value]
            for index, child in enumerate(items):
                if not isinstance(child, ast.AST) or _is_untouched(child) or id(child) in left_alone:
                    continue

                replace = functools.partial(_put, node, name, index if isinstance(value, list) else None)
                self._find(node, name, child, replace, function, owner)
                inner, inside = function, owner
                if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                    inner = f"{function}.{child.name}" if function else child.name
                    inside = child.name if isinstance(child, ast.ClassDef) else owner
                self._walk(child, inner, inside)

    def _find(self, parent: ast.AST, field: str, node: ast.AST, replace: Callable, function: str, owner: str):
        for kind, others in self._faults_of(parent, field, node, owner):
            if others:
                self.sites.append(Site(function, kind, node, replace, others))

    def _faults_of(self, parent, field: str, node, owner: str) -> Iterator[tuple[str, tuple[Callable, ...]]]:
        yield from _of_operators(parent, field, node)
        if isinstance(node, ast.Constant):
            yield "constant", _constants(node)
        if isinstance(node, ast.Call):
            yield from _of_call(node)
        if isinstance(node, ast.Attribute) and _is_an_argument(parent, field):
            others = self._attributes[owner, ast.unparse(node.value)] - {node.attr}
            yield "attribute", tuple(lambda name=name: _copy(node, attr=name) for name in sorted(others))
        if _can_be_left_out(node):
            yield "statement", (lambda: ast.copy_location(ast.Pass(), node),)


def _put(parent: ast.AST, field: str, index: int | None, node: ast.AST):
    """Another node in the place of a child."""
    if index is None:
        setattr(parent, field, node)
    else:
        getattr(parent, field)[index] = node


def _is_an_argument(parent: ast.AST, field: str) -> bool:
    return (isinstance(parent, ast.Call) and field == "args") or (
        isinstance(parent, ast.keyword) and parent.arg not in UNTOUCHED
    )


def _is_negated_anyway(node: ast.AST) -> bool:
    """Conditions whose opposite is a fault of another kind already."""
    if isinstance(node, ast.UnaryOp):
        return isinstance(node.op, ast.Not)
    return isinstance(node, ast.Compare) and len(node.ops) == 1 and len(COMPARISONS[type(node.ops[0])]) == 1


def _can_be_left_out(node: ast.AST) -> bool:
    """A statement that does something and says nothing of a new name."""
    if isinstance(node, ast.Expr):
        return isinstance(node.value, ast.Call)
    if isinstance(node, ast.Assign):
        return all(isinstance(target, ast.Attribute | ast.Subscript) for target in node.targets)
    return isinstance(node, ast.AugAssign)


def _is_untouched(node: ast.AST) -> bool:
    """Messages, hints, and what is never run."""
    if isinstance(node, ast.Raise | ast.JoinedStr | ast.Import | ast.ImportFrom):
        return True
    if isinstance(node, ast.keyword):
        return node.arg in UNTOUCHED
    if isinstance(node, ast.AnnAssign):
        return "TypeAlias" in ast.unparse(node.annotation)
    if isinstance(node, ast.Call):
        return ast.unparse(node.func) in ("TypeVar", "cast", "tqdm") or _is_logging(node.func)
    if isinstance(node, ast.Expr):
        return isinstance(node.value, ast.Call) and _is_logging(node.value.func)
    if isinstance(node, ast.If):
        condition = ast.unparse(node.test)
        return condition == "TYPE_CHECKING" or "'cuda'" in condition
    # A union of types: `Tensor | None`.
    return isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr) and "None" in ast.unparse(node)


def _untouched_defaults(arguments: ast.arguments) -> set[int]:
    """Identities of the defaults that are left alone."""
    plain = [*arguments.posonlyargs, *arguments.args]
    pairs = [*zip(plain[len(plain) - len(arguments.defaults) :], arguments.defaults, strict=True)]
    pairs += zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
    return {id(default) for argument, default in pairs if argument.arg in UNTOUCHED_DEFAULTS}


def _is_logging(function: ast.AST) -> bool:
    return isinstance(function, ast.Attribute) and ast.unparse(function.value) == "logger"


def _short(node: ast.AST) -> str:
    text = " ".join(ast.unparse(node).split())
    return text if len(text) <= 160 else f"{text[:157]}..."


@dataclass(frozen=True)
class Source:
    """A module, and where faults can be made in it.

    Args:
        module (`str`): See [`Mutant`].
        text (`str`): Its source.
        seed (`int`): Draws which of the faults of one place is made.
    """

    module: str
    text: str
    seed: int = 0

    @functools.cached_property
    def places(self) -> dict[str, int]:
        """What the faults are called, and the number of the place of each in the order of the text."""
        counts: dict[tuple[str, str], int] = {}
        found = {}
        for number, site in enumerate(self._sites):
            place = site.function, site.kind
            counts[place] = counts.get(place, -1) + 1
            found[f"{Path(self.module).name}:{site.function}:{site.kind}:{counts[place]}"] = number
        return found

    @functools.cached_property
    def _sites(self) -> list[Site]:
        return Finder(ast.parse(self.text)).sites

    def _place(self, name: str) -> int:
        if name not in self.places:
            raise ValueError(f"`{self.module}` has no place {name!r}")
        return self.places[name]

    def _other(self, site: Site, name: str) -> ast.AST:
        return site.others[rank(self.seed, f"{name}/which") % len(site.others)]()

    def mutant(self, name: str) -> Mutant:
        """The fault of that name.

        Raises:
            ValueError: If the module has no such place.
        """
        site = self._sites[self._place(name)]
        _, function, kind, number = name.split(":")
        before, after = _short(site.node), _short(self._other(site, name))
        return Mutant(self.module, function, kind, int(number), getattr(site.node, "lineno", 0), before, after)

    def with_fault(self, name: str) -> ast.Module:
        """The module's syntax tree with the fault of that name in it.

        Raises:
            ValueError: If the module has no such place.
        """
        place, tree = self._place(name), ast.parse(self.text)
        site = Finder(tree).sites[place]
        site.replace(self._other(site, name))
        return ast.fix_missing_locations(tree)


def function_at(tree: ast.Module, line: int) -> str:
    """The innermost function or class that a line belongs to, decorators included; empty at the level of the module.

    Args:
        tree (`ast.Module`): A module.
        line (`int`): As in tracebacks, from 1 on.
    """
    name, node = "", tree
    while True:
        for child in ast.walk(node):
            if child is node or not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                continue
            first = min([child.lineno, *(decorator.lineno for decorator in child.decorator_list)])
            if first <= line <= child.end_lineno:
                name, node = f"{name}.{child.name}" if name else child.name, child
                break
        else:
            return name


def draw(package: Path, seed: int = 0) -> Iterator[Mutant]:
    """The faults of a package in an order drawn at random: each place is as likely as any other.

    Args:
        package (`Path`): Its folder.
        seed (`int`, *optional*, defaults to 0): Draws.

    Yields:
        `Mutant`: Until there are no more.
    """
    sources = {}
    for path in sorted(package.rglob("*.py")):
        module = path.relative_to(package).with_suffix("").as_posix()
        sources[module] = Source(module, path.read_text(encoding="utf-8"), seed)
    places = [(rank(seed, name), module, name) for module, source in sources.items() for name in source.places]
    for _, module, name in sorted(places):
        yield sources[module].mutant(name)
