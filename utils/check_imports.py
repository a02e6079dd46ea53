# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""Check which room of the package imports which. Reads the source only: needs no installation.

    python utils/check_imports.py [--root REPOSITORY]

A room is a folder of the package, or a module that stands beside the folders. The rules, of which `ROOMS`,
`MODEL_FREE` and `NOT_IN_MODELS` are the data:

- A room imports the rooms that `ROOMS` names for it, and no other. The table has no circle, so imports go downward.
- `models` imports nothing of ours outside itself: with `trust_remote_code` its files travel to the Hub alone. It
  uploads nothing.
- Modules do not import each other in a circle.
- Nobody imports the package's own `__init__`, or that of a room; those of rooms are empty but for a docstring. That of
  `models` imports its own modules and registers them with transformers.
- Imports within the package are relative: `from .module import name` in a room, `from ..room.module import name`
  beyond.
- A room has no folders.
- What is in `MODEL_FREE` takes the model as an argument and never imports it.

Imports inside functions and under `if TYPE_CHECKING` count like any other.
"""

import argparse
import ast
import graphlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

PACKAGE = "itit_hf"

# Room -> the rooms that it may import.
ROOMS: dict[str, tuple[str, ...]] = {
    "models": (),
    "rng": (),
    "hub": (),
    "emoji_scenes": (),
    "masking": ("models", "rng"),
    "decoding": ("masking", "models", "rng"),
    "objectives": ("decoding", "masking", "models", "rng"),
    "data": ("models", "rng"),
    "metrics": ("data", "rng"),
    "rewards": ("data", "metrics", "models"),
    "pipelines": ("decoding", "hub", "models", "objectives"),
    "export": ("decoding", "models"),  # takes the pipeline as an argument; its runtime imports nothing of ours
    "pretraining": ("data", "models", "rng", "training"),
    "training": (
        "data", "decoding", "hub", "masking", "models", "objectives", "pipelines", "rewards", "rng",
    ),
    "commands": (
        "data", "decoding", "emoji_scenes", "metrics", "models", "objectives", "pipelines", "pretraining", "rewards",
        "training",
    ),
}  # fmt: skip

# These take the model as an argument, so that a stub of a few lines can test them: rooms, or single modules.
MODEL = "models.modeling_itit"
MODEL_FREE = ("decoding", "objectives", "pipelines.cycle_generation", "pipelines.scoring")

# Libraries, and what of them a file that travels may import all the same.
NOT_IN_MODELS: dict[str, tuple[str, ...]] = {
    "accelerate": (),
    "huggingface_hub": ("huggingface_hub.dataclasses",),
}

TOP = "__init__"
REGISTERS = "models"  # the room whose `__init__` makes transformers know its classes


@dataclass(frozen=True)
class Module:
    """A module of the package.

    Args:
        path (`Path`): Its file.
        place (`str`): The same for messages, counted from the repository.
        room (`str`): Its folder, or its own name if it stands beside the folders.
        name (`str`): Its name without the folder.
    """

    path: Path
    place: str
    room: str
    name: str

    @property
    def in_folder(self) -> bool:
        """Whether the room is a folder."""
        return self.path.parent.name == self.room

    @property
    def dotted(self) -> str:
        """Its path within the package."""
        return f"{self.room}.{self.name}" if self.in_folder else self.name


@dataclass(frozen=True)
class Import:
    """One name that an import statement takes from a module, or a whole module.

    Args:
        line (`int`): Where it stands.
        level (`int`): Leading dots; 0 for an absolute import.
        module (`str`): What follows the dots, up to the first name; empty in `from . import x`.
        name (`str`, *optional*): What is imported from there; `None` in `import x`.
    """

    line: int
    level: int
    module: str
    name: str | None = None


@dataclass
class Graph:
    """What imports what.

    Args:
        modules (`dict[str, dict[str, int]]`): Module -> imported module -> line.
        rooms (`set[tuple[str, str]]`): Pairs of a room and another that it imports.
    """

    modules: dict[str, dict[str, int]] = field(default_factory=dict)
    rooms: set[tuple[str, str]] = field(default_factory=set)


def imports_of(tree: ast.AST) -> Iterator[Import]:
    """Find the imports of a module, wherever they stand.

    Args:
        tree (`ast.AST`): The module.

    Yields:
        [`Import`].
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                yield Import(node.lineno, node.level, node.module or "", alias.name)
        elif isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(node.lineno, 0, alias.name)


def is_internal(statement: Import) -> bool:
    """Tell whether an import stays within the package.

    Args:
        statement ([`Import`]): The import.
    """
    return statement.level > 0 or statement.module.split(".")[0] == PACKAGE


def form_problem(statement: Import, module: Module) -> str | None:
    """Judge how an import is written, whatever it imports.

    Args:
        statement ([`Import`]): The import, which stays within the package.
        module ([`Module`]): Where it stands.

    Returns:
        `str`: What is wrong and the remedy; `None` if nothing is.
    """
    remedy = "write `from .<module> import <name>`, or `from ..<room>.<module> import <name>`"
    if statement.level == 0:
        return f"imports `{PACKAGE}` itself; {remedy}"
    if statement.level > 1 + module.in_folder:
        return f"leaves the package with {statement.level} dots; {remedy}"
    if statement.module in ("", TOP) or statement.module.endswith(f".{TOP}"):
        return f"imports through an `__init__`; {remedy}"
    return None


def target_of(statement: Import, module: Module, modules: dict[str, Module]) -> str | None:
    """Find which module an import means.

    Args:
        statement ([`Import`]): The import, of the right form.
        module ([`Module`]): Where it stands.
        modules (`dict[str, Module]`): All of the package, by their path within it.

    Returns:
        `str`: Its path within the package; `None` if there is none.
    """
    own = f"{module.room}." if module.in_folder and statement.level == 1 else ""
    for found in (own + statement.module, f"{own}{statement.module}.{statement.name}"):
        if found in modules:
            return found
    return None


def room_problem(module: Module, target: Module) -> str | None:
    """Judge what a module of the package imports.

    Args:
        module ([`Module`]): The module that imports.
        target ([`Module`]): What it imports.

    Returns:
        `str`: What is wrong and the remedy; `None` if nothing is.
    """
    free = {module.room, module.dotted} & set(MODEL_FREE)
    if free and target.dotted == MODEL:
        return f"imports `{MODEL}`; take the model as an argument"
    if target.room == module.room or target.room in ROOMS.get(module.room, ()):
        return None
    if module.room == "models":
        return (
            f"imports `{target.dotted}`, and its files travel to the Hub without it; move what both need into `models`"
        )
    return (
        f"imports `{target.dotted}`, and the room `{module.room}` may not import `{target.room}`; move what both need "
        "into a lower room"
    )


def upload_problem(statement: Import) -> str | None:
    """Judge what a module of `models` imports of libraries.

    Args:
        statement ([`Import`]): The import, of a library.

    Returns:
        `str`: What is wrong and the remedy; `None` if nothing is.
    """
    library = statement.module.split(".")[0]
    if library not in NOT_IN_MODELS or statement.module in NOT_IN_MODELS[library]:
        return None
    return f"imports `{statement.module}`; a file that travels to the Hub neither uploads nor distributes, move it out"


def circle_problem(graph: Graph, modules: dict[str, Module]) -> Iterator[str]:
    """Look for modules that import each other in a circle.

    Args:
        graph ([`Graph`]): What imports what.
        modules (`dict[str, Module]`): All of the package, by their path within it.

    Yields:
        `str`: One message for the first circle, if there is one.
    """
    try:
        graphlib.TopologicalSorter(graph.modules).prepare()
    except graphlib.CycleError as error:
        circle = error.args[1][::-1]  # graphlib names what is imported first
        line = graph.modules[circle[0]][circle[1]]
        place = modules[circle[0]].place
        yield f"{place}:{line}: imports in a circle, {' -> '.join(circle)}; move what they share lower"


def find_modules(root: Path) -> tuple[dict[str, Module], list[str]]:
    """Find the modules of the package, but for its `__init__` files.

    Args:
        root (`Path`): The repository.

    Returns:
        `(modules, problems)`: the modules by their path within the package, and what is wrong with where files are.
    """
    package = root / "src" / PACKAGE
    modules = {}
    problems = []
    for path in sorted(package.rglob("*.py")):
        place = path.relative_to(root).as_posix()
        parts = path.relative_to(package).parts
        room = parts[0].removesuffix(".py")
        if len(parts) > 2:
            problems.append(f"{place}:1: stands in a folder of a room; rooms are flat, move it up")
        elif path.stem == TOP:
            tree = ast.parse(path.read_text(encoding="utf-8"))
            if len(parts) == 2 and room != REGISTERS and any(imports_of(tree)):
                problems.append(f"{place}:1: the `__init__` of a room imports; leave nothing but its docstring there")
            if room == REGISTERS and any(statement.level > 1 for statement in imports_of(tree)):
                problems.append(f"{place}:1: the `__init__` of `{room}` imports beyond its room; register its own")
        else:
            if room not in ROOMS:
                problems.append(
                    f"{place}:1: `{room}` is no room in `ROOMS` of utils/check_imports.py; choose one, or add it"
                )
            module = Module(path, place, room, path.stem)
            modules[module.dotted] = module
    return modules, problems


def check_module(module: Module, modules: dict[str, Module], graph: Graph) -> Iterator[str]:
    """Check the imports of one module, and enter them into the graph.

    Args:
        module ([`Module`]): The module.
        modules (`dict[str, Module]`): All of the package, by their path within it.
        graph ([`Graph`]): What imports what; added to.

    Yields:
        `str`: A message for each problem, as `file:line: what is wrong; the remedy`.
    """
    targets = graph.modules.setdefault(module.dotted, {})
    for statement in imports_of(ast.parse(module.path.read_text(encoding="utf-8"), filename=module.place)):
        if not is_internal(statement):
            problem = upload_problem(statement) if module.room == "models" else None
        else:
            problem = form_problem(statement, module)
            target = None if problem else target_of(statement, module, modules)
            if target is not None:
                targets.setdefault(target, statement.line)
                graph.rooms.add((module.room, modules[target].room))
                problem = room_problem(module, modules[target])
            elif problem is None:
                written = "." * statement.level + statement.module
                problem = f"imports `{written}`, and there is no such module; create it or mend the name"
        if problem is not None:
            yield f"{module.place}:{statement.line}: `{module.dotted}` {problem}"


def check(root: Path) -> tuple[list[str], Graph]:
    """Check the package of a repository.

    Args:
        root (`Path`): The repository; the package is in `src/`.

    Returns:
        `(problems, graph)`: a message for each problem, none if there is none, and what imports what.
    """
    graph = Graph()
    if not (root / "src" / PACKAGE / "__init__.py").is_file():
        return [f"src/{PACKAGE}/__init__.py:1: is missing in {root}; name the repository with --root"], graph
    modules, problems = find_modules(root)
    for module in modules.values():
        problems += dict.fromkeys(check_module(module, modules, graph))  # one for each statement, not for each name
    graph.rooms = {(room, other) for room, other in graph.rooms if room != other}
    return problems + list(circle_problem(graph, modules)), graph


def main() -> int:
    """Print the problems of the repository; the exit status is 1 if there is one."""
    parser = argparse.ArgumentParser(description="Check which room of the package imports which.")
    parser.add_argument("--root", type=Path, default=Path(__file__).resolve().parents[1], help="the repository")
    problems, graph = check(parser.parse_args().root)
    said = f"check_imports: the rooms hold ({len(graph.modules)} modules, {len(graph.rooms)} arrows between rooms)"
    print("\n".join(problems) or said, file=sys.stderr if problems else sys.stdout)
    return int(bool(problems))


if __name__ == "__main__":
    sys.exit(main())
