# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
import ast

import pytest

from mutants import KINDS, Source, draw, function_at

CODE = '''
"""A docstring of 3 words."""
from typing import TypeAlias

Number: TypeAlias = int | float
LIMIT = 10


class Box:
    """Holds 2 things."""

    sizes: tuple[int, ...] = (1,)

    def __init__(self, width: float, height: float = 2.0):
        self.width, self.height = width, height
        label = "5 wide"
        self.label = label

    def area(self, scale: int | None = None) -> float:
        if scale is None and self.width > 0:
            return self.width * self.height
        if not scale:
            raise ValueError(f"wanted 1 or more, got {scale + 0}")
        return pow(self.width, scale, mod=None)


def say(box):
    logger.warning("box %d", box.count + 7)


def hurry(device):
    if device.type == "cuda":
        torch.cuda.synchronize(50)


def embed(images, batch_size=64, *, length=30):
    return min(images[0], length)


def fill(box):
    box.rows.append(-LIMIT)
    box.count += 1
    return dict(first=box.width, second=box.height, device="cpu"), divmod(box.width, 4)
'''


def faults(code=CODE, seed=0):
    source = Source("shapes", code, seed)
    return [source.mutant(name) for name in source.places]


def changes(kind, code=CODE):
    """What each fault of a kind does, whatever the seed draws."""
    return {(f.before, f.after) for seed in range(8) for f in faults(code, seed) if f.kind == kind}


@pytest.mark.parametrize(
    ("kind", "before", "after"),
    [
        ("operator", "self.width * self.height", "self.width / self.height"),
        ("operator", "box.count += 1", "box.count -= 1"),
        ("comparison", "self.width > 0", "self.width >= 0"),
        ("comparison", "scale is None", "scale is not None"),
        ("logic", "scale is None and self.width > 0", "scale is None or self.width > 0"),
        ("logic", "not scale", "scale"),
        ("condition", "scale is None and self.width > 0", "not (scale is None and self.width > 0)"),
        ("constant", "10", "11"),
        ("constant", "2.0", "1.0"),
        ("sign", "-LIMIT", "LIMIT"),
        ("order", "divmod(box.width, 4)", "divmod(4, box.width)"),
        ("keyword", "pow(self.width, scale, mod=None)", "pow(self.width, scale)"),
        (
            "values",
            "dict(first=box.width, second=box.height, device='cpu')",
            "dict(first=box.height, second=box.width, device='cpu')",
        ),
        ("attribute", "box.width", "box.height"),
        ("statement", "box.rows.append(-LIMIT)", "pass"),
        ("statement", "box.count += 1", "pass"),
    ],
)
def test_each_kind_of_fault_is_made(kind, before, after):
    assert (before, after) in changes(kind)


def test_the_example_has_each_kind():
    assert {fault.kind for fault in faults()} == set(KINDS)


def test_strings_messages_and_hints_are_left_alone():
    text = " ".join(fault.before for fault in faults())
    assert not any(
        part in text
        for part in (
            "words",
            "things",
            "5 wide",
            "wanted",
            "scale + 0",
            "int | float",
            "int | None",
            "logger",
            "7",
            "50",
            "cuda",
        )
    )
    assert ("1", "2") in changes("constant")  # of `sizes`, whose hint is left alone
    assert {("30", "31"), ("30", "29")} == {each for each in changes("constant") if each[0] in ("64", "30")}
    assert not any(before.startswith("min(") for before, _ in changes("order"))
    assert not any("device" not in after for before, after in changes("keyword") if "device" in before)


def test_every_fault_changes_the_code_and_can_be_compiled():
    source = Source("shapes", CODE)
    for name in source.places:
        tree = source.with_fault(name)
        compile(tree, "shapes.py", "exec")
        assert ast.dump(tree) != ast.dump(ast.parse(CODE)), name


def test_a_fault_is_where_its_name_says():
    found = next(fault for fault in faults() if fault.kind == "sign")
    assert (
        found.name == "shapes:fill:sign:0" and CODE.splitlines()[found.line - 1].strip() == "box.rows.append(-LIMIT)"
    )
    namespace = {}
    exec(compile(Source("shapes", CODE).with_fault(found.name), "shapes.py", "exec"), namespace)
    box = type("", (), {"rows": [], "count": 0, "width": 3, "height": 2})()
    namespace["fill"](box)
    assert box.rows == [10]


def test_a_place_that_is_none_is_named():
    with pytest.raises(ValueError, match="`shapes` has no place 'shapes:fill:sign:1'"):
        Source("shapes", CODE).mutant("shapes:fill:sign:1")


def test_drawn_faults_stay_drawn_when_the_code_around_them_changes(tmp_path):
    (tmp_path / "shapes.py").write_text(CODE)
    (tmp_path / "deeper").mkdir()
    (tmp_path / "deeper" / "other.py").write_text("def f(x):\n    return x + 1 < 2\n")

    def names(seed):
        return [mutant.name for mutant in draw(tmp_path, seed)]

    drawn = names(3)
    assert len(set(drawn)) == len(drawn) and sorted(names(4)) == sorted(drawn) and names(4) != drawn
    assert {mutant.module for mutant in draw(tmp_path, 3)} == {"shapes", "deeper/other"}
    (tmp_path / "deeper").rename(tmp_path / "elsewhere")
    assert names(3) == drawn
    (tmp_path / "shapes.py").write_text("A = 1 + 2\n\n\ndef g(y):\n    return -y * 3\n" + CODE.replace("10", "A"))
    left = [name for name in names(3) if name in drawn]
    assert len(left) >= len(drawn) - 2 and left == [name for name in drawn if name in left]


def test_a_line_belongs_to_the_innermost_function():
    code = """
import x


class A:
    @x.y
    def f(self):
        def g():
            return 1
        return g
"""
    tree = ast.parse(code)
    assert [function_at(tree, line) for line in (2, 5, 6, 7, 9, 10)] == ["", "A", "A.f", "A.f", "A.f.g", "A.f"]
