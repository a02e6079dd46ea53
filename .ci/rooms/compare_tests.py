"""Test functions before and after: `python compare_tests.py BASE NEW` on two checkouts, by names in the source."""
import ast, collections, sys
from pathlib import Path
def names(root):
    out = collections.Counter()
    for p in Path(root, "tests").rglob("test_*.py"):
        for n in ast.walk(ast.parse(p.read_text())):
            if isinstance(n, ast.FunctionDef) and n.name.startswith("test_"):
                out[n.name] += 1
    return out
a, b = names(sys.argv[1]), names(sys.argv[2])
print("lost:", sorted((a - b).elements())); print("new:", len(list((b - a).elements()))); print(sum(a.values()), sum(b.values()))
