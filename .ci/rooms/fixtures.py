"""Arguments of tests that no fixture of the file, of a conftest or of pytest explains."""
import ast, sys
from pathlib import Path
root = Path(sys.argv[1])
BUILTIN = {"tmp_path", "tmp_path_factory", "monkeypatch", "capsys", "caplog", "request", "recwarn", "record_property", "capfd", "pytestconfig"}
def fixtures(path):
    tree = ast.parse(path.read_text())
    out = set()
    for n in tree.body:
        if isinstance(n, ast.FunctionDef) and any("fixture" in ast.unparse(d) for d in n.decorator_list): out.add(n.name)
        if isinstance(n, ast.ImportFrom): out |= {a.asname or a.name for a in n.names}
    return out, tree
for path in sorted((root / "tests").rglob("test_*.py")):
    known, tree = fixtures(path)
    for up in path.parents:
        if (up / "conftest.py").is_file(): known |= fixtures(up / "conftest.py")[0]
    for n in ast.walk(tree):
        if isinstance(n, ast.FunctionDef) and (n.name.startswith("test_") or n.name in known):
            if n not in tree.body: continue
            params = set()
            for d in n.decorator_list:
                if isinstance(d, ast.Call) and "parametrize" in ast.unparse(d.func):
                    try: v = ast.literal_eval(d.args[0])
                    except Exception: continue
                    params |= set(v.replace(" ", "").split(",")) if isinstance(v, str) else set(v)
            defaults = {a.arg for a in n.args.args[len(n.args.args)-len(n.args.defaults):]}
            lost = {a.arg for a in n.args.args + n.args.kwonlyargs} - params - known - BUILTIN - defaults
            if lost and (n.name.startswith("test_") or any("fixture" in ast.unparse(d) for d in n.decorator_list)): print(path.relative_to(root), n.name, lost)
