# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""Check the rules of the repository that no linter knows. Reads the source only: needs no installation.

    python utils/check_repo.py [--root REPOSITORY]

The rules:

- Each public name, which is one in `_import_structure` of the package's `__init__`, is defined where that table says,
  is mentioned by a test, and has a line in docs/names.md.
- Each module has a test file, `tests/<room>/test_<module>.py`; a room of `ONE_FOR_ALL` has some for all its
  modules. More test files may stand beside it.
- In src/, what is public has a docstring, and one that takes or gives tensors states their shapes.
- In src/, nothing is printed or asserted: a library raises errors and logs.
- In src/, no function takes `**kwargs` but those of `KWARGS_ALLOWED`: a mistyped keyword would pass unnoticed. What is
  annotated as `Unpack[...]` names its keywords and is no such case.
- In src/, code is plain: a function has `MAX_ARGUMENTS` arguments at most, no call unpacks unlike things into its
  arguments, an assignment packs no values, and a conditional expression has one condition.
- In all Python files: two header lines, fewer than `MAX_MODULE_LINES` lines, functions of fewer than
  `MAX_FUNCTION_LINES` lines, and no marker of unfinished work.
"""

import argparse
import ast
import functools
import io
import re
import sys
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PACKAGE = "itit_hf"
FOLDERS = ("src", "tests", "examples", "utils", "metrics", "space")

MAX_MODULE_LINES = 800
# The docstring is not counted: another rule asks for all of it.
MAX_FUNCTION_LINES = 80
# Besides `self` or `cls`.
MAX_ARGUMENTS = 8

HEADER = (r"# Copyright 20\d\d The itit_hf authors\.", r"# SPDX-License-Identifier: Apache-2\.0")
UNFINISHED = re.compile(r"\b(TO" r"DO|FIX" r"ME|XX" r"X)\b")  # in two halves, or this line were one itself
TENSOR = re.compile(r"\b\w*Tensor\b")

# Rooms whose test files are by subject, not by module.
ONE_FOR_ALL = ("emoji_scenes",)

# Functions that may take `**kwargs`, by name or as Class.name, each with the reason.
KWARGS_ALLOWED = {
    "CompilationMixin.compile": "torch's options of compilation",
    "CompilationMixin.compile_blocks": "torch's options of compilation",
    "ITITConfig.__post_init__": "transformers passes the options of its own base class",
    "_preprocess_image_like_inputs": "the image processor's base class passes each option of the call",
    "_standardize_kwargs": "the image processor's base class passes each option of the call",
    "_validate_preprocess_kwargs": "the image processor's base class passes each option of the call",
    "apply_chat_template": "the options of transformers' own method, and the variables of a template",
    "create_masks_for_generate": "transformers' `generate` passes all that a mask may be made of",
    "eager_attention_forward": "the signature of transformers' attention functions",
    "from_pretrained": "the loading options of the Hugging Face base class",
    "extract_init_dict": "diffusers passes the loading options",
    "save_pretrained": "the saving options of the Hugging Face base class",
    "on_log": "transformers' callbacks are passed all the trainer holds",
    "on_optimizer_step": "transformers' callbacks are passed all the trainer holds",
    "on_step_begin": "transformers' callbacks are passed all the trainer holds",
    "on_train_begin": "transformers' callbacks are passed all the trainer holds",
    "on_step_end": "transformers' callbacks are passed all the trainer holds",
    "on_pre_optimizer_step": "transformers' callbacks are passed all the trainer holds",
    "on_save": "transformers' callbacks are passed all the trainer holds",
    "prepare_inputs_for_generation": "transformers' `generate` passes all it holds",
    "_get_logits_processor": "transformers' `generate` passes all that processors may need",
    "_prepare_generated_length": "transformers' `generate` passes which lengths were asked for",
    "ImageModel.__call__": "the arguments of a model's `forward`, of which the loop gives some",
    "PassModel.__call__": "the arguments of a model's `forward`, of which a pass gives some",
    "CiderD.__call__": "trl's signature of a reward: all columns of the data",
    "ClipAgg.__call__": "trl's signature of a reward: all columns of the data",
    "ClipCos.__call__": "trl's signature of a reward: all columns of the data",
    "DiscriminatorReward.__call__": "trl's signature of a reward: all columns of the data",
}

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Source:
    """A Python file of the repository.

    Args:
        place (`str`): Its path, counted from the repository, with forward slashes.
        text (`str`): What it holds.
        tree (`ast.Module`): The same, parsed.
    """

    place: str
    text: str
    tree: ast.Module

    @functools.cached_property
    def functions(self) -> list[tuple[str, Function]]:
        """All functions, nested ones too, as pairs of the name from the class down (`Class.name`) and the node."""
        return list(walk_functions(self.tree, ""))


def walk_functions(node: ast.AST, prefix: str) -> Iterator[tuple[str, Function]]:
    """Find the functions below a node.

    Args:
        node (`ast.AST`): Where to look.
        prefix (`str`): What stands before each name, such as `Class.`.

    Yields:
        `tuple[str, Function]`: The name, with the classes and functions around it, and the node.
    """
    for child in ast.iter_child_nodes(node):
        named = isinstance(child, Function | ast.ClassDef)
        if isinstance(child, Function):
            yield prefix + child.name, child
        yield from walk_functions(child, f"{prefix}{child.name}." if named else prefix)


def is_public(name: str) -> bool:
    """Tell whether a name is for users.

    Args:
        name (`str`): Name of a class, function or method.

    Returns:
        `bool`: `True` without a leading underscore, and for `__call__`.
    """
    return not name.startswith("_") or name == "__call__"


# Each rule below is a function of one file, and yields pairs of a line and a message.


def check_header(source: Source) -> Iterator[tuple[int, str]]:
    """The file starts with the two lines of copyright and licence."""
    lines = source.text.splitlines()[: len(HEADER)]
    if len(lines) < len(HEADER) or not all(map(re.fullmatch, HEADER, lines)):
        yield 1, "lacks the two header lines; copy them from any other file"


def check_size(source: Source) -> Iterator[tuple[int, str]]:
    """Files and functions stay below `MAX_MODULE_LINES` and `MAX_FUNCTION_LINES`."""
    length = len(source.text.splitlines())
    if length >= MAX_MODULE_LINES:
        yield MAX_MODULE_LINES, f"has {length} lines and must have fewer than {MAX_MODULE_LINES}; split the module"
    for name, node in source.functions:
        length = node.end_lineno - node.lineno + 1
        if ast.get_docstring(node) is not None:
            length -= node.body[0].end_lineno - node.body[0].lineno + 1
        if length >= MAX_FUNCTION_LINES:
            limit = f"must have fewer than {MAX_FUNCTION_LINES}"
            yield node.lineno, f"`{name}` has {length} lines without its docstring and {limit}; split the function"


def check_unfinished(source: Source) -> Iterator[tuple[int, str]]:
    """No comment or docstring marks work as unfinished."""
    remedy = "marks unfinished work; finish it, or open an issue"
    for token in tokenize.generate_tokens(io.StringIO(source.text).readline):
        if token.type == tokenize.COMMENT and UNFINISHED.search(token.string):
            yield token.start[0], f"the comment {remedy}"
    for node in ast.walk(source.tree):
        if isinstance(node, Function | ast.ClassDef | ast.Module) and UNFINISHED.search(ast.get_docstring(node) or ""):
            yield node.body[0].lineno, f"the docstring {remedy}"


def check_statements(source: Source) -> Iterator[tuple[int, str]]:
    """Nothing is printed or asserted."""
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Assert):
            yield node.lineno, "asserts; raise ValueError that names the argument, what it got and what it wants"
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print":
            yield node.lineno, "prints; use `transformers.utils.logging`, or give the text back"


def check_kwargs(source: Source) -> Iterator[tuple[int, str]]:
    """No function takes `**kwargs` but those of `KWARGS_ALLOWED`, and those whose keywords are named by `Unpack`."""
    remedy = "name the keywords, or add it to KWARGS_ALLOWED of utils/check_repo.py with the reason"
    for name, node in source.functions:
        kwarg = node.args.kwarg
        if kwarg is None or {name, node.name} & KWARGS_ALLOWED.keys():
            continue
        if not (isinstance(kwarg.annotation, ast.Subscript) and ast.unparse(kwarg.annotation.value) == "Unpack"):
            yield node.lineno, f"`{name}` takes `**{kwarg.arg}`; {remedy}"


def check_docstrings(source: Source) -> Iterator[tuple[int, str]]:
    """What is public has a docstring, with the shapes of its tensors."""
    if ast.get_docstring(source.tree) is None:
        yield 1, "the module has no docstring; say in a line what it is for"
    for name, node in public_definitions(source.tree, ""):
        docstring = ast.get_docstring(node)
        if docstring is None:
            yield node.lineno, f"`{name}` is public and has no docstring; write one, or name it with an underscore"
        elif mentions_tensors(node) and "shape" not in docstring:
            yield node.lineno, f"the docstring of `{name}` states no shape; add `of shape (...)` for each tensor"


def public_definitions(node: ast.Module | ast.ClassDef, prefix: str) -> Iterator[tuple[str, Function | ast.ClassDef]]:
    """Find the public classes, functions and methods of a module or class.

    Overloads and the setters of properties are left out: one docstring serves them and the definition they belong to.

    Args:
        node (`ast.Module` or `ast.ClassDef`): Where to look.
        prefix (`str`): What stands before each name, such as `Class.`.

    Yields:
        `tuple[str, Function | ast.ClassDef]`: The name with the classes around it, and the node.
    """
    for child in node.body:
        if not isinstance(child, Function | ast.ClassDef) or not is_public(child.name):
            continue
        decorators = {ast.unparse(decorator).split(".")[-1] for decorator in child.decorator_list}
        if decorators & {"overload", "setter", "deleter"}:
            continue
        yield prefix + child.name, child
        if isinstance(child, ast.ClassDef):
            yield from public_definitions(child, f"{prefix}{child.name}.")


def mentions_tensors(node: Function | ast.ClassDef) -> bool:
    """Tell whether a docstring has shapes to state.

    Args:
        node (`Function` or `ast.ClassDef`): What the docstring is of. A class answers for its fields and its
            `__init__`.

    Returns:
        `bool`: `True` if an annotation names a tensor type.
    """
    if isinstance(node, ast.ClassDef):
        fields = [child.annotation for child in node.body if isinstance(child, ast.AnnAssign)]
        inits = [child for child in node.body if isinstance(child, Function) and child.name == "__init__"]
        return any(TENSOR.search(ast.unparse(field)) for field in fields) or any(map(mentions_tensors, inits))
    arguments = node.args.posonlyargs + node.args.args + node.args.kwonlyargs
    annotations = [argument.annotation for argument in arguments] + [node.returns]
    return any(TENSOR.search(ast.unparse(annotation)) for annotation in annotations if annotation is not None)


# Functions whose signature a library prescribes, by name or as Class.name, each with the reason.
ARGUMENTS_ALLOWED: dict[str, str] = {
    "ITITForCaptioning.forward": "what a model of transformers may be called with are arguments of `forward`",
    "ITITForPreTraining.forward": "what a model of transformers may be called with are arguments of `forward`",
    "ITITPipeline.__call__": "the signature of diffusers' pipelines",
    "ITITRewardTrainer.__init__": "the arguments of transformers' `Trainer`, and trl's `reward_funcs`",
    "ITITTrainer.__init__": "the arguments of transformers' `Trainer`",
    "PatchVQModel.__init__": "diffusers makes the configuration of the arguments of `__init__`",
}

# Functions of as many arguments of one kind as one likes.
VARIADIC = {
    "max", "min", "zip", "print", "map", "join", "joinpath", "Path", "chain", "product", "union", "intersection",
    "update", "gather", "add_row", "cat", "view", "reshape", "expand", "repeat", "permute", "new_zeros", "new_full",
    "zeros", "ones", "empty", "broadcast_tensors", "Sequential", "partial",
}  # fmt: skip


def check_arguments(source: Source) -> Iterator[tuple[int, str]]:
    """A function of ours has `MAX_ARGUMENTS` arguments at most, but those of `ARGUMENTS_ALLOWED`."""
    for name, node in source.functions:
        arguments = [argument.arg for argument in node.args.posonlyargs + node.args.args + node.args.kwonlyargs]
        if arguments[:1] in (["self"], ["cls"]):
            arguments = arguments[1:]
        if len(arguments) > MAX_ARGUMENTS and not {name, node.name} & ARGUMENTS_ALLOWED.keys():
            limit = f"must have {MAX_ARGUMENTS} at most"
            yield (
                node.lineno,
                f"`{name}` has {len(arguments)} arguments and {limit}; give it an object that holds them",
            )


def check_splats(source: Source) -> Iterator[tuple[int, str]]:
    """No call unpacks a tuple of unlike things into arguments by their place.

    What a function was given as `*args` may be passed on, and functions of `VARIADIC` take things of one kind.
    """
    relayed: dict[int, set[str]] = {}
    for _, function in source.functions:
        if function.args.vararg is not None:
            for node in ast.walk(function):
                relayed.setdefault(id(node), set()).add(function.args.vararg.arg)
    for node in ast.walk(source.tree):
        if not isinstance(node, ast.Call):
            continue
        called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        starred = [argument for argument in node.args if isinstance(argument, ast.Starred)]
        unlike = [each for each in starred if ast.unparse(each.value) not in relayed.get(id(each), ())]
        if unlike and len(node.args) > 1 and called not in VARIADIC:
            splat = ast.unparse(unlike[0])
            yield node.lineno, f"unpacks `{splat}` among other arguments of `{called}`; name the arguments"


def check_packings(source: Source) -> Iterator[tuple[int, str]]:
    """An assignment gives one name one value, unless it swaps some."""
    for node in ast.walk(source.tree):
        if not isinstance(node, ast.Assign) or not isinstance(node.value, ast.Tuple):
            continue
        for target in node.targets:
            if not isinstance(target, ast.Tuple) or len(target.elts) != len(node.value.elts):
                continue
            names, values = ({ast.unparse(each) for each in side.elts} for side in (target, node.value))
            if names != values:
                yield node.lineno, f"packs `{ast.unparse(target)}` into one assignment; write one for each"


def check_ternaries(source: Source) -> Iterator[tuple[int, str]]:
    """A conditional expression has one condition."""
    for node in ast.walk(source.tree):
        if not isinstance(node, ast.IfExp):
            continue
        inner = [each for part in (node.test, node.body, node.orelse) for each in ast.walk(part)]
        if isinstance(node.test, ast.BoolOp) or any(isinstance(each, ast.IfExp) for each in inner):
            yield node.lineno, f"`{ast.unparse(node):.60}` has more than one condition; write `if` statements"


EVERYWHERE = (check_header, check_size, check_unfinished)
LIBRARY_ONLY = (
    *(check_statements, check_kwargs, check_docstrings),
    *(check_arguments, check_splats, check_packings, check_ternaries),
)


def import_structure(init: Source) -> dict[str, dict[str, int]] | None:
    """Read the table of public names.

    Args:
        init ([`Source`]): The package's `__init__`.

    Returns:
        `dict[str, dict[str, int]]`: Module -> public name -> line; `None` if there is no `_import_structure`, or it is
        not written out as a dict of lists.
    """
    for node in init.tree.body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if any(isinstance(target, ast.Name) and target.id == "_import_structure" for target in targets):
            try:
                modules = ast.literal_eval(node.value)
            except ValueError:
                return None
            lists = zip(modules, node.value.values, strict=True)
            return {module: {name.value: name.lineno for name in names.elts} for module, names in lists}
    return None


def defined_names(tree: ast.Module) -> set[str]:
    """Collect the names that a module defines or imports, function bodies left out.

    Args:
        tree (`ast.Module`): The module.

    Returns:
        `set[str]`.
    """
    names = set()
    for node in tree.body:
        if isinstance(node, Function | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names.update(alias.asname or alias.name for alias in node.names)
        else:
            names.update(child.id for child in ast.walk(node) if isinstance(child, ast.Name))
    return names


def check_public_names(sources: dict[str, Source], page: str) -> Iterator[str]:
    """Check that each public name is defined, tested and in docs/names.md.

    Args:
        sources (`dict[str, Source]`): All Python files by place.
        page (`str`): The text of docs/names.md.

    Yields:
        `str`: A message for each problem.
    """
    folder = f"src/{PACKAGE}"
    place = f"{folder}/__init__.py"
    table = import_structure(sources[place])
    if table is None:
        yield f"{place}:1: has no `_import_structure`; write it out as a dict of module -> list of public names"
        return
    tests = [source.text for source in sources.values() if source.place.startswith("tests/")]
    tested, described = (set(re.findall(r"\w+", text)) for text in ("\n".join(tests), page))
    for module, names in table.items():
        path = f"{folder}/{module.replace('.', '/')}"
        source = sources.get(f"{path}.py") or sources.get(f"{path}/__init__.py")
        defined = set() if source is None else defined_names(source.tree)
        for name, line in names.items():
            if name not in defined:
                yield f"{place}:{line}: `{name}` is not in `{module}`; mend the table"
            if name not in tested:
                yield f"{place}:{line}: `{name}` is public and no test mentions it; test it"
            if name not in described:
                yield f"{place}:{line}: `{name}` is public and docs/names.md does not mention it; add a line"


def check_test_files(sources: dict[str, Source]) -> Iterator[str]:
    """Check that each module has its test file in the room's folder of tests/.

    Args:
        sources (`dict[str, Source]`): All Python files by place.

    Yields:
        `str`: A message for each problem.
    """
    seen = set()
    for place in sources:
        match = re.fullmatch(rf"src/{PACKAGE}/(?:(\w+)/)?(\w+)\.py", place)
        if match is None or match[2] == "__init__":
            continue
        room = match[1]
        if room in ONE_FOR_ALL:
            if room not in seen and not any(name.startswith(f"tests/{room}/test_") for name in sources):
                yield f"{place}:1: has no test file; create one in tests/{room}"
            seen.add(room)
            continue
        wanted = f"tests/{room}/test_{match[2]}.py" if room else f"tests/test_{match[2]}.py"
        if wanted not in sources:
            yield f"{place}:1: has no test file; create {wanted}"


def check(root: Path) -> list[str]:
    """Check a repository.

    Args:
        root (`Path`): The repository.

    Returns:
        `list[str]`: A message for each problem, as `file:line: what is wrong; the remedy`; empty if there is none.
    """
    sources = {}
    problems = []
    for path in sorted(path for folder in FOLDERS for path in (root / folder).glob("**/*.py")):
        place = path.relative_to(root).as_posix()
        text = path.read_text(encoding="utf-8")
        try:
            sources[place] = source = Source(place, text, ast.parse(text))
        except SyntaxError as error:
            problems.append(f"{place}:{error.lineno}: is no Python, {error.msg}; mend it")
            continue
        rules = EVERYWHERE + (LIBRARY_ONLY if place.startswith("src/") else ())
        problems += [f"{place}:{line}: {message}" for rule in rules for line, message in rule(source)]
    page = root / "docs" / "names.md"
    if f"src/{PACKAGE}/__init__.py" not in sources or not page.is_file():
        return [
            *problems,
            f"{root}:1: has no package src/{PACKAGE} or no {page.name}; name the repository with --root",
        ]
    problems += check_public_names(sources, page.read_text(encoding="utf-8"))
    problems += check_test_files(sources)
    return problems


def main() -> int:
    """Print the problems of the repository; the exit status is 1 if there is one."""
    parser = argparse.ArgumentParser(description="Check the rules of the repository that no linter knows.")
    parser.add_argument("--root", type=Path, default=Path(__file__).resolve().parents[1], help="the repository")
    args = parser.parse_args()
    problems = check(args.root)
    print("\n".join(problems) or "check_repo: the rules hold", file=sys.stderr if problems else sys.stdout)
    return int(bool(problems))


if __name__ == "__main__":
    sys.exit(main())
