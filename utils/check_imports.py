# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""Check that the package's modules import each other in layers. Reads the source only: needs no installation.

    python utils/check_imports.py [--root REPOSITORY]

The rules, of which `LAYERS`, `MODEL_FREE` and `TOP` are the data:

- A module imports its siblings relatively, with a single dot, and never the package's own `__init__`.
- A module never imports one of a higher row; each module has a row.
- Modules, those of one row included, do not import each other in a circle.
- A subpackage stands alone: it imports its own modules only, and none of the package's modules imports it, unless it
  has a row like a module.
- A module of `MODEL_FREE` takes the model as an argument and never imports it.

Imports inside functions and under `if TYPE_CHECKING` count like any other.
"""

import argparse
import ast
import graphlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PACKAGE = "itit_hf"

# Lowest row first.
LAYERS = (
    (
        "auto_classes",
        "call_state",
        "captions",
        "checkpointing",
        "configuration_itit",
        "contrastive",
        "cpu_kernels_itit",
        "cycle_generation",
        "masking",
        "metrics",  # a subpackage
        "modelcard",
        "modeling_outputs_itit",
        "monitoring",
        "placement",
        "recipes",
        "replay",
        "row_store",
        "safe_loading",
        "shared_prefix",
        "straight_through",
        "text_features",
        "visualization",
        "vocabulary_itit",
        "watching",
        "weight_files",
    ),
    (
        "forward_inputs_itit",
        "hub",
        "image_features_itit",
        "image_processing_itit",
        "image_tokenization_itit",
        "layers_itit",
        "losses",
        "optimization",
        "perceptual_loss",
        "processing_itit",
        "safe_trainer",
        "scheduling_itit",
        "scorers",
        "span_corruption",
        "text_files",
        "vq_evaluation",
    ),
    (
        "adaptation",
        "archives",
        "editing",
        "folders",
        "generation_itit",
        "likelihood",
        "lora",
        "modeling_itit",
        "passes",
        "sampling",
    ),
    ("cycle", "pipeline_inputs", "pipeline_itit", "readers"),
    ("sources",),
    ("data", "objectives"),
    ("eval_data", "filters", "pair_weights", "rewards", "trainer", "training_args", "vq_training"),
    ("reward_trainer", "vq_trainer"),
)

# These take the model as an argument, so that a stub of a few lines can test them.
MODEL = "modeling_itit"
MODEL_FREE = ("cycle", "cycle_generation", "likelihood", "objectives", "passes", "sampling")

# Stands above all rows: it may import any module, and no module imports it.
TOP = "__init__"


@dataclass(frozen=True)
class Import:
    """One import statement that stays within the package.

    Args:
        line (`int`): Where it stands.
        level (`int`): Leading dots; 0 for an absolute import.
        module (`str`): What follows the dots, up to the first name; empty in `from . import x`.
    """

    line: int
    level: int
    module: str


def internal_imports(tree: ast.AST) -> list[Import]:
    """Find the imports of a module that stay within the package.

    Args:
        tree (`ast.AST`): The module.

    Returns:
        `list[Import]` in no particular order: the relative ones, and the absolute ones of `PACKAGE`.
    """
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.level or (node.module or "").split(".")[0] == PACKAGE):
            found.append(Import(node.lineno, node.level, (node.module or "").split(".")[0]))
        elif isinstance(node, ast.Import) and any(alias.name.split(".")[0] == PACKAGE for alias in node.names):
            found.append(Import(node.lineno, 0, PACKAGE))
    return found


def row_of(module: str) -> int | None:
    """Give the row of a module in `LAYERS`.

    Args:
        module (`str`): Its name, without the package.

    Returns:
        `int`, 0 for the lowest; `None` if the module has none.
    """
    return next((row for row, modules in enumerate(LAYERS) if module in modules), None)


def form_problem(statement: Import, siblings: set[str]) -> str | None:
    """Judge how an import is written, whatever it imports.

    Args:
        statement ([`Import`]): The import.
        siblings (`set[str]`): Modules of the folder.

    Returns:
        `str`: What is wrong and the remedy; `None` if nothing is.
    """
    if statement.level == 0:
        return f"imports `{PACKAGE}` itself; write `from .<module> import <name>`"
    if statement.level > 1:
        return "leaves its folder with more than one dot; what stands in a subpackage uses its own modules only"
    if statement.module in ("", TOP):
        return "imports through the package's `__init__`; write `from .<module> import <name>`"
    if statement.module not in siblings:
        return f"imports `.{statement.module}`, and there is no such module beside it; create it or mend the name"
    return None


def layer_problem(module: str, target: str, subpackages: set[str]) -> str | None:
    """Judge what a module of the package imports.

    Args:
        module (`str`): The module that imports.
        target (`str`): What it imports.
        subpackages (`set[str]`): Folders of the package.

    Returns:
        `str`: What is wrong and the remedy; `None` if nothing is.
    """
    if target in subpackages and row_of(target) is None:
        return f"imports the subpackage `{target}`, which is to stand alone; leave that to the scripts of examples/"
    row, target_row = row_of(module), row_of(target)
    if row is not None and target_row is not None and target_row > row:
        return f"(row {row}) imports `{target}` of the higher row {target_row}; move what both need into a lower row"
    if module in MODEL_FREE and target == MODEL:
        return f"imports `{MODEL}`; take the model as an argument"
    return None


def cycle_problem(graph: dict[str, dict[str, int]], folder: str) -> Iterator[str]:
    """Look for modules of one folder that import each other in a circle.

    Args:
        graph (`dict[str, dict[str, int]]`): Module -> imported module -> line.
        folder (`str`): Path of the folder, for the message.

    Yields:
        `str`: One message for the first circle, if there is one.
    """
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        circle = error.args[1][::-1]  # graphlib names what is imported first
        line = graph[circle[0]][circle[1]]
        yield f"{folder}/{circle[0]}.py:{line}: imports in a circle, {' -> '.join(circle)}; move what they share lower"


def check_folder(folder: Path, root: Path) -> Iterator[str]:
    """Check the modules of one folder, which is the package or a subpackage.

    Args:
        folder (`Path`): The folder.
        root (`Path`): The repository, which messages count paths from.

    Yields:
        `str`: A message for each problem, as `file:line: what is wrong; the remedy`.
    """
    is_package = folder.name == PACKAGE
    subpackages = {path.parent.name for path in folder.glob("*/*.py")}
    siblings = {path.stem for path in folder.glob("*.py")} | subpackages
    graph: dict[str, dict[str, int]] = {}
    for path in sorted(folder.glob("*.py")):
        module, place = path.stem, path.relative_to(root).as_posix()
        if is_package and module != TOP and row_of(module) is None:
            yield f"{place}:1: has no row in `LAYERS` of utils/check_imports.py; choose the lowest that fits"
        targets = graph.setdefault(module, {})
        for statement in internal_imports(ast.parse(path.read_text(encoding="utf-8"), filename=place)):
            problem = form_problem(statement, siblings)
            if problem is None:
                targets.setdefault(statement.module, statement.line)
                if is_package and module != TOP:
                    problem = layer_problem(module, statement.module, subpackages)
            if problem is not None:
                yield f"{place}:{statement.line}: `{module}` {problem}"
    yield from cycle_problem(graph, folder.relative_to(root).as_posix())


def check(root: Path) -> list[str]:
    """Check the package of a repository.

    Args:
        root (`Path`): The repository; the package is in `src/`.

    Returns:
        `list[str]`: A message for each problem; empty if there is none.
    """
    package = root / "src" / PACKAGE
    if not (package / "__init__.py").is_file():
        return [f"src/{PACKAGE}/__init__.py:1: is missing in {root}; name the repository with --root"]
    folders = [package, *sorted({path.parent for path in package.glob("*/**/*.py")})]
    return [problem for folder in folders for problem in check_folder(folder, root)]


def main() -> int:
    """Print the problems of the repository; the exit status is 1 if there is one."""
    parser = argparse.ArgumentParser(description="Check that the package's modules import each other in layers.")
    parser.add_argument("--root", type=Path, default=Path(__file__).resolve().parents[1], help="the repository")
    problems = check(parser.parse_args().root)
    print("\n".join(problems) or "check_imports: the layers hold", file=sys.stderr if problems else sys.stdout)
    return int(bool(problems))


if __name__ == "__main__":
    sys.exit(main())
