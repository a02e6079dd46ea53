# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
import pytest

import check_imports

CLEAN = {
    "__init__.py": "import importlib\n",
    "masking.py": "import torch\n",
    "losses.py": "from .masking import a\n",
    "image_processing_itit.py": "import PIL.Image\n",
    "processing_itit.py": "from .image_processing_itit import a\n",  # within a row
    "modeling_itit.py": "from .losses import a\nfrom .masking import b\n",
    "cycle.py": "from .masking import a\n",
    "emoji_scenes/__init__.py": "",
    "emoji_scenes/art.py": "from .kinds import a\n",
    "emoji_scenes/kinds.py": "",
}


@pytest.fixture
def problems_with(tmp_path):
    """Problems of the clean package with some of its files replaced or added."""

    def problems_with(**files: str) -> list[str]:
        changed = {name.replace("__in__", "/") + ".py": text for name, text in files.items()}
        for name, text in (CLEAN | changed).items():
            path = tmp_path / "src" / "itit_hf" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return check_imports.check(tmp_path)

    return problems_with


def test_a_clean_package_has_no_problem(problems_with):
    assert problems_with() == []


def test_a_lower_row_must_not_import_a_higher_one(problems_with):
    (problem,) = problems_with(losses="\nfrom .modeling_itit import a\n", modeling_itit="")
    assert problem.startswith("src/itit_hf/losses.py:2: `losses` (row 1) imports `modeling_itit` of the higher row 2")


@pytest.mark.parametrize("statement", ["def f():\n    {}", "if TYPE_CHECKING:\n    {}", "try:\n    {}\nfinally: pass"])
def test_an_import_counts_wherever_it_stands(problems_with, statement):
    (problem,) = problems_with(masking=statement.format("from .cycle import a"), cycle="")
    assert problem.startswith("src/itit_hf/masking.py:2: `masking` (row 0) imports `cycle`")


@pytest.mark.parametrize(
    "statement",
    ["import itit_hf", "import itit_hf.masking as m", "from itit_hf import a", "from itit_hf.masking import a"],
)
def test_the_package_must_not_be_imported_by_its_name(problems_with, statement):
    (problem,) = problems_with(losses=statement)
    assert problem.startswith("src/itit_hf/losses.py:1: `losses` imports `itit_hf` itself; write `from .<module>")


@pytest.mark.parametrize("statement", ["from . import masking", "from .__init__ import a"])
def test_no_module_may_import_the_init(problems_with, statement):
    (problem,) = problems_with(losses=statement)
    assert problem.startswith("src/itit_hf/losses.py:1: `losses` imports through the package's `__init__`")


def test_the_init_may_import_any_module(problems_with):
    assert problems_with(__init__="from .cycle import a\nfrom .masking import b\nfrom .emoji_scenes import c\n") == []


def test_another_package_with_a_longer_name_is_not_the_package(problems_with):
    assert problems_with(losses="import itit_hf_extras\nfrom itit_hf_extras import a\n") == []


def test_two_modules_of_a_row_must_not_import_each_other(problems_with):
    (problem,) = problems_with(image_processing_itit="\nfrom .processing_itit import a\n")
    circle = "image_processing_itit -> processing_itit -> image_processing_itit"
    assert problem.startswith(f"src/itit_hf/image_processing_itit.py:2: imports in a circle, {circle}")


def test_a_circle_of_three_within_a_subpackage_is_found(problems_with):
    (problem,) = problems_with(
        emoji_scenes__in__kinds="from .scenes import a\n", emoji_scenes__in__scenes="\n\nfrom .art import a\n"
    )
    circle = "art -> kinds -> scenes -> art"
    assert problem.startswith(f"src/itit_hf/emoji_scenes/art.py:1: imports in a circle, {circle}")


def test_a_module_must_not_import_itself(problems_with):
    (problem,) = problems_with(losses="\n\nfrom .losses import a\n")
    assert problem.startswith("src/itit_hf/losses.py:3: imports in a circle, losses -> losses")


def test_a_module_without_a_row_must_choose_one(problems_with):
    (problem,) = problems_with(newcomer="")
    assert problem.startswith("src/itit_hf/newcomer.py:1: has no row in `LAYERS`")


def test_a_module_that_does_not_exist_is_named(problems_with):
    (problem,) = problems_with(losses="from .maskign import a\n")
    assert problem.startswith("src/itit_hf/losses.py:1: `losses` imports `.maskign`, and there is no such module")


@pytest.mark.parametrize("module", ["cycle", "objectives", "sampling"])
def test_what_takes_the_model_as_an_argument_must_not_import_it(problems_with, module):
    (problem,) = problems_with(**{module: "from .modeling_itit import a\n"})
    assert problem.startswith(f"src/itit_hf/{module}.py:1: `{module}` imports `modeling_itit`; take the model")


def test_a_subpackage_must_not_import_from_the_package(problems_with):
    (problem,) = problems_with(emoji_scenes__in__art="from ..masking import a\n")
    assert problem.startswith("src/itit_hf/emoji_scenes/art.py:1: `art` leaves its folder")


def test_the_package_must_not_import_a_subpackage(problems_with):
    (problem,) = problems_with(cycle="from .emoji_scenes.art import a\n")
    assert problem.startswith("src/itit_hf/cycle.py:1: `cycle` imports the subpackage `emoji_scenes`")


def test_a_subpackage_that_has_a_row_may_be_imported(problems_with):
    assert problems_with(metrics__in__captions="", cycle="from .metrics.captions import a\n") == []


def test_a_folder_without_the_package_is_a_problem(tmp_path):
    (problem,) = check_imports.check(tmp_path)
    assert "name the repository with --root" in problem


def test_each_module_has_one_row():
    modules = [module for row in check_imports.LAYERS for module in row]
    assert len(modules) == len(set(modules))


@pytest.mark.parametrize(("losses", "status", "stream"), [("", 0, "out"), ("from . import a", 1, "err")])
def test_the_exit_status_says_whether_there_are_problems(
    problems_with, tmp_path, monkeypatch, capsys, losses, status, stream
):
    problems_with(losses=losses)
    monkeypatch.setattr("sys.argv", ["check_imports.py", "--root", str(tmp_path)])
    assert check_imports.main() == status
    printed = capsys.readouterr()
    assert getattr(printed, stream)
    assert bool(printed.err) == bool(status)
