# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
import graphlib
from pathlib import Path

import pytest

import check_imports

ROOT = Path(__file__).parents[2]
CLEAN = {
    "__init__.py": "import importlib\nfrom .models.layers_itit import a\n",
    "rng.py": "import torch\n",
    "masking.py": "from .models.configuration_itit import a\nfrom .rng import b\n",
    "models/__init__.py": '"""A room."""\n',
    "models/configuration_itit.py": "from huggingface_hub.dataclasses import strict\n",
    "models/layers_itit.py": "from .configuration_itit import a\n",
    "models/modeling_itit.py": "from .layers_itit import a\n",
    "objectives/losses.py": "from ..rng import a\n",
    "objectives/cycle.py": "from ..masking import a\nfrom .losses import b\n",
    "metrics/captions.py": "",
    "rewards/captions.py": "from ..metrics import captions\n",  # a module of that room
    "emoji_scenes/art.py": "from .categories import a\n",
    "emoji_scenes/categories.py": "",
}


@pytest.fixture
def problems_with(tmp_path):
    """Problems of the clean package with some of its files replaced or added."""

    def problems_with(files: dict[str, str]) -> list[str]:
        for name, text in (CLEAN | files).items():
            path = tmp_path / "src" / "itit_hf" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return check_imports.check(tmp_path)[0]

    return problems_with


def test_a_clean_package_has_no_problem(problems_with):
    assert problems_with({}) == []


def test_a_lower_room_must_not_import_a_higher_one(problems_with):
    (problem,) = problems_with({"rng.py": "\nfrom .masking import a\n", "masking.py": ""})
    start = "src/itit_hf/rng.py:2: `rng` imports `masking`, and the room `rng` may not import `masking`; move"
    assert problem.startswith(start)


@pytest.mark.parametrize("statement", ["from ..rng import a", "from ..masking import a", "from ..hub.push import a"])
def test_models_import_nothing_of_ours_outside_themselves(problems_with, statement):
    files = {"models/layers_itit.py": f"\n{statement}\n", "masking.py": "", "hub/push.py": ""}
    (problem,) = problems_with(files)
    assert problem.startswith("src/itit_hf/models/layers_itit.py:2: `models.layers_itit` imports `")
    assert "its files travel to the Hub without it" in problem


@pytest.mark.parametrize(
    "statement",
    [
        "from huggingface_hub import HfApi",
        "import huggingface_hub",
        "from huggingface_hub.repocard import ModelCard",
        "import accelerate.utils",
        "from accelerate import Accelerator",
    ],
)
def test_models_neither_upload_nor_distribute(problems_with, statement):
    (problem,) = problems_with({"models/layers_itit.py": f"def f():\n    {statement}\n"})
    assert problem.startswith("src/itit_hf/models/layers_itit.py:2: `models.layers_itit` imports `")
    assert "neither uploads nor distributes" in problem
    assert problems_with({"models/layers_itit.py": "", "rng.py": statement}) == []


@pytest.mark.parametrize("statement", ["def f():\n    {}", "if TYPE_CHECKING:\n    {}", "try:\n    {}\nfinally: pass"])
def test_an_import_counts_wherever_it_stands(problems_with, statement):
    (problem,) = problems_with({"objectives/losses.py": statement.format("from ..emoji_scenes.art import a")})
    assert problem.startswith("src/itit_hf/objectives/losses.py:2: `objectives.losses` imports `emoji_scenes.art`")


@pytest.mark.parametrize(
    "statement",
    ["import itit_hf", "import itit_hf.rng as r", "from itit_hf import a", "from itit_hf.rng import a"],
)
def test_the_package_must_not_be_imported_by_its_name(problems_with, statement):
    (problem,) = problems_with({"objectives/losses.py": statement})
    assert problem.startswith(
        "src/itit_hf/objectives/losses.py:1: `objectives.losses` imports `itit_hf` itself; write"
    )


@pytest.mark.parametrize(
    "statement", ["from . import cycle", "from .. import rng", "from ..__init__ import a", "from .__init__ import a"]
)
def test_no_module_may_import_an_init(problems_with, statement):
    (problem,) = problems_with({"objectives/losses.py": statement})
    assert problem.startswith(
        "src/itit_hf/objectives/losses.py:1: `objectives.losses` imports through an `__init__`; write"
    )


def test_a_name_of_a_rooms_init_is_no_module(problems_with):
    (problem,) = problems_with({"rewards/captions.py": "from ..metrics import cider\n"})
    assert "imports `..metrics`, and there is no such module" in problem


def test_the_init_of_a_room_holds_nothing(problems_with):
    (problem,) = problems_with({"metrics/__init__.py": "from .captions import a\n"})
    assert problem.startswith("src/itit_hf/metrics/__init__.py:1: the `__init__` of a room imports; leave nothing")


def test_the_init_of_models_registers_its_own_modules_alone(problems_with):
    assert problems_with({"models/__init__.py": "import transformers\nfrom .layers_itit import a\n"}) == []
    (problem,) = problems_with({"models/__init__.py": "from ..rng import a\n"})
    assert problem.startswith("src/itit_hf/models/__init__.py:1: the `__init__` of `models` imports beyond its room")


def test_the_init_of_the_package_may_import_any_module(problems_with):
    assert problems_with({"__init__.py": "from .objectives.cycle import a\nfrom .emoji_scenes.art import b\n"}) == []


def test_another_package_with_a_longer_name_is_not_the_package(problems_with):
    assert problems_with({"rng.py": "import itit_hf_extras\nfrom itit_hf_extras import a\n"}) == []


def test_two_modules_of_a_room_must_not_import_each_other(problems_with):
    (problem,) = problems_with({"objectives/losses.py": "\nfrom .cycle import a\n"})
    circle = "objectives.losses -> objectives.cycle -> objectives.losses"
    assert f"imports in a circle, {circle}" in problem or "objectives.cycle -> objectives.losses" in problem


def test_a_circle_of_three_is_found(problems_with):
    files = {
        "emoji_scenes/categories.py": "from .scenes import a\n",
        "emoji_scenes/scenes.py": "\n\nfrom .art import a\n",
    }
    (problem,) = problems_with(files)
    assert "imports in a circle, emoji_scenes." in problem and problem.count(" -> ") == 3


def test_a_module_must_not_import_itself(problems_with):
    (problem,) = problems_with({"objectives/losses.py": "\n\nfrom .losses import a\n"})
    assert problem.startswith("src/itit_hf/objectives/losses.py:3: imports in a circle, objectives.losses -> objec")


@pytest.mark.parametrize("file", ["newcomer.py", "newcomers/first.py"])
def test_a_module_without_a_room_must_choose_one(problems_with, file):
    (problem,) = problems_with({file: ""})
    assert f"`{file.partition('/')[0].removesuffix('.py')}` is no room in `ROOMS`" in problem


def test_a_room_has_no_folders(problems_with):
    (problem,) = problems_with({"models/blocks/attention.py": ""})
    assert problem.startswith("src/itit_hf/models/blocks/attention.py:1: stands in a folder of a room")


def test_a_module_that_does_not_exist_is_named(problems_with):
    (problem,) = problems_with({"objectives/losses.py": "from ..maskign import a\n"})
    assert problem.startswith("src/itit_hf/objectives/losses.py:1: `objectives.losses` imports `..maskign`, and there")


def test_more_dots_than_there_are_folders_are_named(problems_with):
    (problem,) = problems_with({"rng.py": "from ..masking import a\n"})
    assert problem.startswith("src/itit_hf/rng.py:1: `rng` leaves the package with 2 dots")


def test_what_takes_the_model_as_an_argument_must_not_import_it(problems_with):
    for module in ("objectives/cycle.py", "pipelines/scoring.py"):
        (problem,) = problems_with({"pipelines/scoring.py": "", module: "from ..models.modeling_itit import a\n"})
        assert problem.startswith(f"src/itit_hf/{module}:1:") and "take the model as an argument" in problem
        problems_with({"objectives/cycle.py": ""})
    assert (
        problems_with({"pipelines/scoring.py": "", "pipelines/pipe.py": "from ..models.modeling_itit import a"}) == []
    )


def test_the_library_must_not_import_the_emoji_scenes(problems_with):
    (problem,) = problems_with({"objectives/cycle.py": "from ..emoji_scenes.art import a\n"})
    assert "the room `objectives` may not import `emoji_scenes`" in problem


def test_a_folder_without_the_package_is_a_problem(tmp_path):
    ((problem,), _) = check_imports.check(tmp_path)
    assert "name the repository with --root" in problem


def test_the_table_of_rooms_has_no_circle():
    graphlib.TopologicalSorter(check_imports.ROOMS).prepare()


def test_the_table_allows_what_is_there_and_nothing_else():
    _, graph = check_imports.check(ROOT)
    assert graph.rooms == {(room, other) for room, others in check_imports.ROOMS.items() for other in others}


@pytest.mark.parametrize(("losses", "status", "stream"), [("", 0, "out"), ("from . import a", 1, "err")])
def test_the_exit_status_says_whether_there_are_problems(
    problems_with, tmp_path, monkeypatch, capsys, losses, status, stream
):
    problems_with({"objectives/losses.py": losses})
    monkeypatch.setattr("sys.argv", ["check_imports.py", "--root", str(tmp_path)])
    assert check_imports.main() == status
    printed = capsys.readouterr()
    assert getattr(printed, stream)
    assert bool(printed.err) == bool(status)
