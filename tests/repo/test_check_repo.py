# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
import pytest

import check_repo

HEADER = "# Copyright 2026 The itit_hf authors.\n# SPDX-License-Identifier: Apache-2.0\n"
MODULE = HEADER + '"""A module."""\n'  # three lines: what follows starts at line 4

CLEAN = {
    "docs/names.md": "`swim` moves a swimmer.\n",
    "src/itit_hf/__init__.py": MODULE + '_import_structure = {\n    "water": ["swim"],\n}\n',
    "src/itit_hf/water.py": MODULE + 'def swim():\n    """Swim."""\n',
    "src/itit_hf/fishes/__init__.py": MODULE,
    "src/itit_hf/fishes/carp.py": MODULE,
    "tests/test_water.py": HEADER + "assert swim() is None\n",
    "tests/fishes/test_carp.py": HEADER,
    "examples/dive.py": HEADER + 'print("a library must not, a script may")\n',
}


@pytest.fixture
def problems_with(tmp_path):
    """Problems of the clean repository with some of its files replaced or added, or left out where `None`."""

    def problems_with(files: dict[str, str | None]) -> list[str]:
        for name, text in (CLEAN | files).items():
            if text is not None:
                path = tmp_path / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text)
        return check_repo.check(tmp_path)

    return problems_with


@pytest.fixture
def problems_of(problems_with):
    """Problems of one more module of the library, whose code starts at line 4."""

    def problems_of(code: str) -> list[str]:
        return problems_with({"src/itit_hf/fishes/pike.py": MODULE + code, "tests/fishes/test_pike.py": HEADER})

    return problems_of


def test_a_clean_repository_has_no_problem(problems_with):
    assert problems_with({}) == []


def test_a_public_name_needs_a_test(problems_with):
    (problem,) = problems_with({"tests/test_water.py": HEADER + "assert swimmer\n"})
    assert problem == "src/itit_hf/__init__.py:5: `swim` is public and no test mentions it; test it"


def test_a_public_name_needs_a_line_in_the_page_of_names(problems_with):
    (problem,) = problems_with({"docs/names.md": "`swimmer`\n"})
    assert problem == "src/itit_hf/__init__.py:5: `swim` is public and docs/names.md does not mention it; add a line"


def test_a_public_name_stands_where_the_table_says(problems_with):
    (problem,) = problems_with({"src/itit_hf/water.py": MODULE})
    assert problem == "src/itit_hf/__init__.py:5: `swim` is not in `water`; mend the table"


@pytest.mark.parametrize("definition", ["swim = 1", "swim: int = 1", "class swim:\n    'A.'", "from os import swim"])
def test_a_public_name_may_be_defined_in_any_way(problems_with, definition):
    assert problems_with({"src/itit_hf/water.py": f"{MODULE}{definition}\n"}) == []


@pytest.mark.parametrize(("module", "path"), [("fishes", "fishes/__init__.py"), ("fishes.carp", "fishes/carp.py")])
def test_a_public_name_may_stand_in_a_subpackage(problems_with, module, path):
    files = {
        "src/itit_hf/__init__.py": MODULE + f'_import_structure = {{"{module}": ["swim"]}}\n',
        f"src/itit_hf/{path}": CLEAN["src/itit_hf/water.py"],
    }
    assert problems_with(files) == []


@pytest.mark.parametrize("table", ["", "_import_structure = dict(water=['swim'])"])
def test_the_table_of_public_names_must_be_written_out(problems_with, table):
    (problem,) = problems_with({"src/itit_hf/__init__.py": MODULE + table})
    assert problem.startswith("src/itit_hf/__init__.py:1: has no `_import_structure`; write it out")


def test_the_table_of_public_names_may_be_annotated(problems_with):
    table = '_import_structure: dict[str, list[str]] = {"water": ["swim"]}\n'
    assert problems_with({"src/itit_hf/__init__.py": MODULE + table}) == []


def test_a_module_needs_a_test_file(problems_with):
    (problem,) = problems_with({"src/itit_hf/air.py": MODULE})
    assert problem == "src/itit_hf/air.py:1: has no test file; create tests/test_air.py"


def test_each_module_of_a_room_needs_a_test_file(problems_with):
    (problem,) = problems_with({"tests/fishes/test_carp.py": None, "tests/fishes/test_fins.py": HEADER})
    assert problem == "src/itit_hf/fishes/carp.py:1: has no test file; create tests/fishes/test_carp.py"


def test_the_modules_of_some_rooms_are_tested_by_subject(problems_with):
    files = {"src/itit_hf/emoji_scenes/art.py": MODULE, "src/itit_hf/emoji_scenes/build.py": MODULE}
    (problem,) = problems_with(files)
    assert problem == "src/itit_hf/emoji_scenes/art.py:1: has no test file; create one in tests/emoji_scenes"
    assert problems_with(files | {"tests/emoji_scenes/test_images.py": HEADER}) == []


@pytest.mark.parametrize(
    ("code", "name"),
    [
        ("def dive():\n    pass\n", "dive"),
        ("class Pond:\n    pass\n", "Pond"),
        ('class Pond:\n    """Still."""\n    def dive(self): ...\n', "Pond.dive"),
        ('class Pond:\n    """Still."""\n    def __call__(self): ...\n', "Pond.__call__"),
        ('class Pond:\n    """Still."""\n    class Shore: ...\n', "Pond.Shore"),
    ],
)
def test_what_is_public_needs_a_docstring(problems_of, code, name):
    (problem,) = problems_of(code)
    assert f"`{name}` is public and has no docstring" in problem


@pytest.mark.parametrize(
    "code",
    [
        "def _dive(): ...\n",
        "class _Pond:\n    def dive(self): ...\n",
        'class Pond:\n    """Still."""\n    def __init__(self): ...\n    def _dive(self): ...\n',
        'def dive():\n    """Dive."""\n    def deeper(): ...\n',
        "@typing.overload\ndef dive(): ...\n",
        'class Pond:\n    """Still."""\n    @depth.setter\n    def depth(self, value): ...\n',
    ],
)
def test_what_is_not_public_needs_no_docstring(problems_of, code):
    assert problems_of(code) == []


def test_a_module_needs_a_docstring(problems_with):
    (problem,) = problems_with({"src/itit_hf/fishes/carp.py": HEADER})
    assert problem.startswith("src/itit_hf/fishes/carp.py:1: the module has no docstring")


@pytest.mark.parametrize("docstring", ["Dive.", "Dive, of shape `(batch_size,)`."])
@pytest.mark.parametrize(
    "code",
    [
        'def dive(x: torch.Tensor):\n    """{}"""\n',
        'def dive() -> "torch.FloatTensor | None":\n    """{}"""\n',
        'def dive(*, x: list[torch.LongTensor] = ()):\n    """{}"""\n',
        'class Pond:\n    """{}"""\n    depth: torch.Tensor\n',
        'class Pond:\n    """{}"""\n    def __init__(self, depth: Tensor): ...\n',
        'class Pond:\n    """Still."""\n    def dive(self, x: torch.BoolTensor):\n        """{}"""\n',
    ],
)
def test_the_docstring_of_tensors_states_their_shapes(problems_of, code, docstring):
    problems = problems_of(code.format(docstring))
    assert ["states no shape" in problem for problem in problems] == ([] if "shape" in docstring else [True])


def test_a_module_must_have_fewer_than_800_lines(problems_of):
    assert problems_of("\n" * 796) == []
    (problem,) = problems_of("\n" * 797)
    assert problem.startswith("src/itit_hf/fishes/pike.py:800: has 800 lines and must have fewer than 800; split")


def test_a_function_must_have_fewer_than_80_lines_without_its_docstring(problems_of):
    code = 'def dive():\n    """Dive.\n{}    """\n{}'
    assert problems_of(code.format("\n" * 90, "    x = 1\n" * 78)) == []
    (problem,) = problems_of(code.format("\n" * 90, "    x = 1\n" * 79))
    assert problem.startswith("src/itit_hf/fishes/pike.py:4: `dive` has 80 lines without its docstring")


def test_sizes_count_in_examples_too(problems_with):
    (problem,) = problems_with({"examples/dive.py": HEADER + "def main():\n" + "    x = 1\n" * 80})
    assert problem.startswith("examples/dive.py:3: `main` has 81 lines")


def test_the_library_must_not_print(problems_of):
    (problem,) = problems_of('\nprint("splash")\n')
    assert problem.startswith("src/itit_hf/fishes/pike.py:5: prints; use")


def test_the_library_must_not_assert(problems_of):
    (problem,) = problems_of("assert True\n")
    assert problem.startswith("src/itit_hf/fishes/pike.py:4: asserts; raise ValueError")


@pytest.mark.parametrize("folder", ["src/itit_hf/fishes", "tests", "examples", "utils"])
@pytest.mark.parametrize("text", ["", '"""A module."""\n', HEADER.replace("Apache-2.0", "MIT") + '"""A module."""\n'])
def test_each_python_file_starts_with_the_header(problems_with, folder, text):
    problems = problems_with({f"{folder}/reed.py": text})
    assert f"{folder}/reed.py:1: lacks the two header lines; copy them from any other file" in problems


def test_keywords_must_be_named(problems_of):
    (problem,) = problems_of("def _dive(**options): ...\n")
    assert problem.startswith("src/itit_hf/fishes/pike.py:4: `_dive` takes `**options`; name the keywords")


@pytest.mark.parametrize(
    "code",
    [
        'def from_pretrained(path, **kwargs):\n    """Load."""\n',
        "def _dive(**kwargs: Unpack[DiveKwargs]): ...\n",
        "def _dive(): f(**options)\n",
    ],
)
def test_keywords_of_hugging_face_overrides_and_typed_ones_may_be_passed_on(problems_of, code):
    assert problems_of(code) == []


def test_a_method_is_allowed_by_its_class_and_name(problems_of):
    code = 'class {}:\n    """A."""\n    def __call__(self, **kwargs):\n        """F."""\n'
    assert problems_of(code.format("CiderD")) == []
    (problem,) = problems_of(code.format("Pond"))
    assert "`Pond.__call__` takes `**kwargs`" in problem


@pytest.mark.parametrize("marker", ["TODO", "FIXME", "XXX"])
@pytest.mark.parametrize("code", ["x = 1  # {}: swim\n", 'def _dive():\n    """{}: swim."""\n'])
def test_no_comment_or_docstring_marks_unfinished_work(problems_of, code, marker):
    (problem,) = problems_of(code.format(marker))
    assert "marks unfinished work; finish it" in problem


def test_a_marker_within_a_string_or_a_word_is_none(problems_of):
    assert problems_of('x = "TODO"  # a TODOLIST\n') == []


def test_a_file_that_is_no_python_is_named(problems_with):
    (problem,) = problems_with({"examples/dive.py": HEADER + "def (\n"})
    assert problem.startswith("examples/dive.py:3: is no Python")


def test_a_folder_without_the_package_is_a_problem(tmp_path):
    (problem,) = check_repo.check(tmp_path)
    assert "name the repository with --root" in problem


def test_each_exception_has_its_reason():
    assert all(check_repo.KWARGS_ALLOWED.values())


@pytest.mark.parametrize(("page", "status", "stream"), [("swim", 0, "out"), ("", 1, "err")])
def test_the_exit_status_says_whether_there_are_problems(
    problems_with, tmp_path, monkeypatch, capsys, page, status, stream
):
    problems_with({"docs/names.md": page})
    monkeypatch.setattr("sys.argv", ["check_repo.py", "--root", str(tmp_path)])
    assert check_repo.main() == status
    printed = capsys.readouterr()
    assert getattr(printed, stream)
    assert bool(printed.err) == bool(status)


@pytest.mark.parametrize("signature", ["a, b, c, d, e, f, g, h", "self, a, b, c, d, *, e, f, g, h", "*args"])
def test_a_function_may_have_eight_arguments(problems_of, signature):
    assert problems_of(f"def _dive({signature}): ...\n") == []


@pytest.mark.parametrize("signature", ["a, b, c, d, e, f, g, h, i", "cls, a, b, c, d, /, e, f, g, *, h, i=0"])
def test_a_function_must_not_have_nine_arguments(problems_of, signature):
    (problem,) = problems_of(f"def _dive({signature}): ...\n")
    assert problem.startswith("src/itit_hf/fishes/pike.py:4: `_dive` has 9 arguments and must have 8 at most")


@pytest.mark.parametrize("call", ["f(ids, *text, *kept)", "f(*text, embeds)", "model.f(ids, *(a, b))"])
def test_unlike_things_are_not_unpacked_into_a_call(problems_of, call):
    (problem,) = problems_of(f"def _dive(ids, text, kept, embeds, model, f, a, b):\n    return {call}\n")
    assert "among other arguments of `f`; name the arguments" in problem


@pytest.mark.parametrize("call", ["f(*args)", "f(kept, *args)", "max(1, *kept)", "f(*kept)", "f(ids, **kept)"])
def test_things_of_a_kind_and_relayed_ones_may_be_unpacked(problems_of, call):
    assert problems_of(f"def _dive(ids, kept, f, *args):\n    return {call}\n") == []


@pytest.mark.parametrize("statement", ["a, b = 1, 2", "a, b = b, c", "self.a, self.b = a, b"])
def test_an_assignment_packs_nothing(problems_of, statement):
    (problem,) = problems_of(f"def _dive(self, a, b, c):\n    {statement}\n")
    assert "into one assignment; write one for each" in problem


@pytest.mark.parametrize("statement", ["a, b = b, a", "a, b = c", "a, b, c = b, c, a", "a = b, c"])
def test_a_swap_and_what_a_call_returns_are_no_packing(problems_of, statement):
    assert problems_of(f"def _dive(a, b, c):\n    {statement}\n") == []


@pytest.mark.parametrize(
    "expression", ["1 if a and b else 2", "1 if a else 2 if b else 3", "(1 if a else 2) if b else 3"]
)
def test_a_ternary_has_one_condition(problems_of, expression):
    (problem, *_) = problems_of(f"def _dive(a, b):\n    return {expression}\n")
    assert "has more than one condition; write `if` statements" in problem


def test_a_ternary_of_one_condition_is_plain(problems_of):
    assert problems_of("def _dive(a, b):\n    return a if not b else None\n") == []


def test_scripts_and_tests_may_be_less_plain(problems_with):
    assert problems_with({"examples/dive.py": HEADER + "a, b = 1, 2\n"}) == []


def test_each_signature_that_a_library_prescribes_has_its_reason():
    assert all(check_repo.ARGUMENTS_ALLOWED.values())
