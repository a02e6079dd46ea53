"""Turn a clean checkout into rooms.

    python move.py CHECKOUT [--no-format]

Changes the working tree only; commits nothing. Run it on a clean tree.
"""

import argparse
import ast
import json
import re
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import byhand
import plan
from engine import HEADER, Chunk, File, Function, Repository, used_names

HERE = Path(__file__).parent
BIN = Path(sys.executable).parent


def run(root, *command, check=True):
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    if check and done.returncode:
        raise SystemExit(f"{' '.join(map(str, command))}\n{done.stdout[-6000:]}\n{done.stderr[-3000:]}")
    return done.stdout


def read(path):
    return path.read_text(encoding="utf-8")


def is_fixture(node):
    return isinstance(node, Function) and any("fixture" in ast.unparse(d) for d in node.decorator_list)


def arguments(node):
    return {a.arg for a in [*node.args.args, *node.args.kwonlyargs]} if isinstance(node, Function) else set()


def deepened(text, old, new):
    """`Path(__file__).parents[n]`, where the file moves from `old` to `new`."""
    if not old.startswith(("tests/", "utils/")):
        return text
    depth = new.count("/") - old.count("/")
    pattern = r"(Path\(__file__\)(?:\.resolve\(\))?\.parents\[)(\d+)\]"
    return re.sub(pattern, lambda m: f"{m[1]}{int(m[2]) + depth}]", text)


def split_tests(repo, key, own, parts):
    """Chunk -> target of a test file: by the names of the library that a test speaks of."""
    file = repo.files[key]
    default = repo.default[key]
    where = {}  # local name -> new module
    modules = {}  # local name of a module -> its old key
    for bound, found in file.imports.items():
        for node, alias in found:
            if isinstance(node, ast.ImportFrom):
                module, ours = repo.old_module(node, key)
                if ours and module is not None and not module.startswith("tests"):
                    inner = f"{module}.{alias.name}" if module else alias.name
                    if inner in repo.default and (module, alias.name) not in repo.defs:
                        modules[bound] = inner
                    elif module in repo.default:
                        where[bound] = repo.resolve(module, alias.name)
                    else:  # a public name
                        where[bound] = repo.public.get(alias.name, "")
    helpers = {name: chunk for chunk in file.chunks for name in chunk.names}

    def spoken(chunk):
        names = used_names(chunk.node)
        found = {where[name] for name in names if name in where}
        for node in ast.walk(chunk.node):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in modules:
                found.add(repo.resolve(modules[node.value.id], node.attr))
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                for m in re.finditer(r"itit_hf\.(\w+)\.(\w+)", node.value):
                    if (m[1], m[2]) in repo.defs:
                        found.add(repo.defs[m[1], m[2]])
        return found

    def needs(chunk, seen=()):
        """Helpers and fixtures that a chunk uses, those of these too."""
        names = (used_names(chunk.node) | arguments(chunk.node)) & helpers.keys()
        out = set()
        for name in names - set(chunk.names):
            if name not in seen:
                out |= {name} | needs(helpers[name], (*seen, *chunk.names, name))
        return out

    for chunk in file.chunks:
        if not any(name.startswith("test_") for name in chunk.names):
            continue
        found = spoken(chunk)
        if not found & (set(own) | {t for mods in parts.values() for t in mods}):  # by its helpers then
            for name in needs(chunk):
                found |= spoken(helpers[name])
        for target, mods in parts.items():
            if found & set(mods) and not found & set(own):
                chunk.target = f"tests/{target}"
                break
        else:
            chunk.target = default
    # Helpers go with their users; what several need stays, but fixtures go to conftest.
    changed = True
    while changed:
        changed = False
        for chunk in file.chunks:
            if any(name.startswith("test_") for name in chunk.names):
                continue
            users = [
                other
                for other in file.chunks
                if other is not chunk and (used_names(other.node) | arguments(other.node)) & set(chunk.names)
            ]
            targets = {other.target for other in users if other.target}
            if not targets:
                continue
            shared = default.rpartition("/")[0] + "/conftest"
            if len(targets) == 1:
                new = targets.pop()
            elif is_fixture(chunk.node) or shared in targets:
                new = shared
            else:
                new = default
            if chunk.target != new:
                chunk.target = new
                changed = True
    for chunk in file.chunks:
        chunk.target = chunk.target or default
        for name in chunk.names:
            repo.defs[key, name] = chunk.target
    repo.targets_of[key] = {chunk.target for chunk in file.chunks} | {default}


def import_of(repo, file, context, name, importer, text):
    """Statements of the imports that bind `name` in a file, as they are written at `importer`."""
    lines = []
    for node, alias in file.imports.get(name, ()):
        single = ast.copy_location(
            ast.Import([alias]) if isinstance(node, ast.Import) else ast.ImportFrom(node.module, [alias], node.level),
            node,
        )
        new, _ = repo.import_lines(single, context, importer, text, file.text)
        lines += [ast.unparse(single)] if new is None else new
    return lines


def assemble(repo, target, contributions, base_key, contexts, above=False):
    """The text of a file that is put together."""
    importer = repo.place(target)
    imports, bodies = [], []
    have = set()
    for key, chunks in contributions:
        file, context = repo.files[key], contexts(key)
        own = {name for chunk in file.chunks for name in chunk.names}
        texts = []
        for chunk in chunks:
            if chunk.is_logger:
                if "logger" in have:
                    continue
                have.add("logger")
            for name in chunk.names:
                if name in have and name != "logger":
                    raise SystemExit(f"{target}: `{name}` is defined by two files; rename one first")
            have.update(chunk.names)
            renamed = repo.alias_renames(file, context, importer, chunk.text)
            texts.append((chunk, deepened(repo.rewrite_python(renamed, context, importer), key, target)))
            needed = used_names(chunk.node)
            source = chunk.text
            for name in sorted(needed):
                if name in own and repo.defs.get((key, name), target) != target and name != "logger":
                    other = repo.defs[key, name]
                    imports.append(f"from {repo.spell(other, importer)} import {name}")
                elif name not in own and name in file.imports:
                    lines = import_of(repo, file, context, name, importer, chunk.text)
                    dotted = [l for l in lines if re.fullmatch(r"import [\w.]+", l) and "." in l]
                    used = [l for l in dotted if re.search(rf"\b{re.escape(l[7:])}\b", source)]
                    imports += [l for l in lines if l not in dotted or l in used or (l == dotted[0] and not used)]
        bodies.append((key, texts))
    base_text = None
    if base_key is not None:
        file = repo.files[base_key]
        lines = file.text.splitlines(keepends=True)
        head = "".join(lines[: file.last_import])
        head = repo.rewrite_python(head, contexts(base_key), importer)
        if plan.DOCSTRINGS.get(target):
            head = head.replace(repo.rewrite_text(file.docstring, importer), plan.DOCSTRINGS[target], 1)
    else:
        doc = plan.DOCSTRINGS.get(target, "")
        if not doc and contributions:
            doc = repo.files[contributions[0][0]].docstring if target.startswith("tests/") else ""
        head = HEADER + (doc + "\n\n" if doc else "")
    imports = sorted(set(imports))
    if target in plan.KEPT_IMPORTS:
        key, name = plan.KEPT_IMPORTS[target]
        node, _ = repo.files[key].imports[name][0]
        imports.append("\n".join(repo.files[key].text.splitlines()[node.lineno - 1 : node.end_lineno]))
    text = head.rstrip("\n") + "\n" + "\n".join(imports) + "\n" if imports else head
    start = text
    if base_key is not None and above:
        bodies.sort(key=lambda each: each[0] == base_key)
    elif base_key is not None:
        bodies.sort(key=lambda each: each[0] != base_key)
    for key, texts in bodies:
        for chunk, written in texts:
            first = text.rstrip("\n") == head.rstrip("\n") or text is start
            text = text.rstrip("\n") + "\n" * (max(chunk.blank, int(first)) + 1) + written + "\n"
    return text


def wrap(root, code):
    """Lines of comments and docstrings that grew too long go on in the next line."""
    for _ in range(40):
        out = run(root, BIN / "ruff", "check", "--select", "E501", "--output-format", "json", *code, check=False)
        places = {}
        for each in json.loads(out):
            places.setdefault(each["filename"], set()).add(each["location"]["row"])
        done = 0
        for name, rows in places.items():
            lines = read(Path(name)).splitlines()
            tree = ast.parse(read(Path(name)))
            strings = set()
            for node in ast.walk(tree):
                if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.end_lineno >= node.lineno:
                    text = "\n".join(lines[node.lineno - 1 : node.end_lineno])
                    if '"""' in text:
                        strings |= set(range(node.lineno, node.end_lineno + 1))
            for row in sorted(rows, reverse=True):
                line = lines[row - 1]
                indent = line[: len(line) - len(line.lstrip())]
                comment = line.lstrip().startswith("#")
                if 'Fault("' in line and ('", "' in line or ', "' in line):
                    head, _, tail = line.rpartition(', "')
                    lines[row - 1 : row] = [head + ",", " " * 10 + '"' + tail]
                    done += 1
                    continue
                if row not in strings and not comment:
                    continue
                cut = line.rfind(" ", 0, 120)
                if cut <= len(indent) + 2:
                    continue
                head, rest = line[:cut], line[cut + 1 :]
                lead = indent + ("# " if comment else "")
                if line.lstrip().startswith("- "):
                    lead = indent + "  "
                following = lines[row] if row < len(lines) else ""
                same = following.startswith(lead) and following[len(lead) : len(lead) + 1] not in ("", " ", "-", '"', "|")
                closes = rest.rstrip().endswith('"""')
                if same and not closes and following.strip():
                    lines[row - 1 : row + 1] = [head, lead + rest + " " + following[len(lead) :]]
                else:
                    lines[row - 1 : row] = [head, lead + rest]
                done += 1
            Path(name).write_text("\n".join(lines) + "\n", encoding="utf-8")
        if not done:
            return


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("checkout", type=Path)
    parser.add_argument("--dirty", action="store_true")
    args = parser.parse_args()
    root, began = args.checkout.resolve(), time.time()
    if not args.dirty and run(root, "git", "status", "--porcelain"):
        raise SystemExit("the tree is not clean")
    repo = Repository(root)
    src, tests = root / "src/itit_hf", root / "tests"

    # 1. Read.
    found = {p.stem for p in src.glob("*.py")} - {"__init__"}
    lost = found - {key for key in plan.MODULES}
    for key in sorted(lost):  # a new module goes where most of those that import it are
        users = [p.stem for p in src.glob("*.py") if re.search(rf"from \.{key} import", read(p))]
        rooms = [plan.MODULES[user].partition("/")[0] for user in users if "/" in plan.MODULES.get(user, "")]
        if not rooms:  # or beside the highest that it imports
            floors = ("models", "data", "decoding", "objectives", "metrics", "rewards", "hub", "pipelines", "pretraining", "training")
            own = re.findall(r"from \.(\w+) import", read(src / f"{key}.py"))
            own = [plan.MODULES[m].partition("/")[0] for m in own if "/" in plan.MODULES.get(m, "")]
            rooms = sorted(own, key=floors.index)[-1:]
        if rooms:
            room = max(sorted(set(rooms)), key=rooms.count)
            plan.MODULES[key] = f"{room}/{key}"
            print(f"NOTE: new module {key} -> {room}/{key}, as {users} import it")
    lost = found - {key for key in plan.MODULES}
    if lost:
        raise SystemExit(f"modules without a room: {sorted(lost)}")
    for key in plan.MODULES:
        path = src / (key.replace(".", "/") + ".py")
        if path.is_file():
            repo.files[key] = File(key, read(path))
        elif key != "metrics":
            print(f"note: there is no module {key} (any more)")
            continue
        repo.default[key] = plan.MODULES[key]
    for key, file in repo.files.items():
        repo.assign(key, plan.MODULES[key], plan.LEAVES.get(key, {}))
    byhand.check(repo)

    targets = {}  # target -> [(key, chunks)]
    for key, file in repo.files.items():
        logger = [c for c in file.chunks if c.is_logger]
        for target in sorted({c.target for c in file.chunks if not c.is_logger} | {repo.default[key]}):
            chunks = [c for c in file.chunks if c.target == target or c.is_logger]
            reads_logger = any("logger" in used_names(c.node) for c in chunks if not c.is_logger)
            chunks = [c for c in chunks if not c.is_logger or reads_logger]
            if [c for c in chunks if not c.is_logger]:
                targets.setdefault(target, []).append((key, chunks))
    for target, contributions in targets.items():
        names = set()
        for key, chunks in contributions:
            names |= {n for c in chunks for n in c.names} | set(repo.files[key].imports)
        repo.namespaces[target] = names
    table = ast.literal_eval(re.search(r"_import_structure = (\{.*?\n\})", read(src / "__init__.py"), re.S)[1])
    repo.public = {name: repo.resolve(module, name) for module, names in table.items() for name in names}

    # 2. Tests: where each goes.
    test_paths = sorted(p for p in tests.rglob("*.py"))
    for path in test_paths:
        key = path.relative_to(root).as_posix()[:-3]
        repo.files[key] = File(key, read(path))
        name = key.removeprefix("tests/")
        if name.split("/")[0] in plan.TEST_FOLDERS or name in ("__init__", "conftest", "testing_utils", "hub_server"):
            repo.default[key] = key
        elif name in plan.TESTS:
            repo.default[key] = "tests/" + plan.TESTS[name]
        else:
            module = name.removeprefix("test_")
            known = module if module in plan.MODULES else module.replace("metrics_", "metrics.")
            folder = next((f for start, f in plan.TEST_PATTERNS.items() if name.startswith(start)), None)
            if known not in plan.MODULES and folder:
                repo.default[key] = f"tests/{folder}{name}"
                repo.assign(key, repo.default[key], {})
                continue
            begins = [m for m in plan.MODULES if m != "metrics" and module.startswith(f"{m}_")]
            if known not in plan.MODULES and begins and "/" not in name:  # more tests of a module
                first = max(begins, key=len)
                target = repo.namesake.get(first, plan.MODULES[first]).removeprefix("examples/")
                repo.default[key] = f"tests/{target.rpartition('/')[0]}/test_{target.rpartition('/')[2]}{module[len(first):]}"
                repo.assign(key, repo.default[key], {})
                print(f"NOTE: {name} -> {repo.default[key]}")
                continue
            imported = re.findall(r"from itit_hf\.(\w+) import", repo.files[key].text)
            rooms = [plan.MODULES[m].partition("/")[0] for m in imported if "/" in plan.MODULES.get(m, "")]
            if known not in plan.MODULES and rooms and "/" not in name and name.startswith("test_"):
                repo.default[key] = f"tests/{max(sorted(set(rooms)), key=rooms.count)}/{name}"
                repo.assign(key, repo.default[key], {})
                print(f"NOTE: {name} -> {repo.default[key]}, by what it imports")
                continue
            if known not in plan.MODULES and "/" not in name and name.startswith("test_"):
                repo.default[key] = f"tests/repo/{name}"  # of a script or of the repository
                repo.assign(key, repo.default[key], {})
                print(f"NOTE: {name} -> {repo.default[key]}, for want of a better room")
                continue
            if "/" in name or known not in plan.MODULES or not name.startswith("test_"):
                raise SystemExit(f"tests/{name}.py: has no room; add it to plan.TESTS")
            target = repo.namesake.get(known, plan.MODULES[known])
            folder, _, stem = target.rpartition("/")
            repo.default[key] = f"tests/{folder}{'/' if folder else ''}test_{stem}"
        repo.assign(key, repo.default[key], plan.TEST_LEAVES.get(key, {}))
    for name, parts in plan.TEST_SPLITS.items():
        key = f"tests/{name}"
        if key in repo.files:
            split_tests(repo, key, plan.TEST_OWN[name], parts)

    def contexts(key):
        return key if key.startswith("tests/") else f"src:{key}"

    # 3. Write src.
    written = {}  # path -> text
    for target, contributions in targets.items():
        place = f"{repo.place(target)}.py"
        base = plan.BASES.get(target, contributions[0][0])
        if base not in dict(contributions):
            base = None if target in plan.BASES or len(contributions) > 1 else contributions[0][0]
        keys = [key for key, _ in contributions]
        leaving = base is not None and any(c.target != target for c in repo.files[base].chunks if not c.is_logger)
        whole = base is not None and keys == [base] and not leaving and repo.default[base] == target
        if whole and target not in plan.DOCSTRINGS:
            written[place] = repo.rewrite_python(repo.files[base].text, contexts(base), repo.place(target))
            continue
        if base is not None and repo.default[base] != target:
            base = None
        written[place] = assemble(repo, target, contributions, base, contexts, target in plan.JOINS_ABOVE)

    # 4. Write tests.
    by_target = {}
    for key, file in repo.files.items():
        if key.startswith("tests/"):
            if not file.chunks:
                by_target.setdefault(repo.default[key], []).append((key, []))
            for target in sorted({c.target for c in file.chunks}):
                by_target.setdefault(target, []).append((key, [c for c in file.chunks if c.target == target]))
    for target, contributions in by_target.items():
        keys = [key for key, _ in contributions]
        # The file that has the name goes first, and keeps its head.
        base = next((k for k in keys if repo.default[k] == target), None)
        contributions.sort(key=lambda each: each[0] != base)
        whole = len(keys) == 1 and base and all(c.target == target for c in repo.files[base].chunks)
        if whole:
            text = deepened(repo.rewrite_python(repo.files[base].text, base, target), base, target)
        else:
            text = assemble(repo, target, contributions, base, contexts)
        written[f"{target}.py"] = text

    # 5. Other Python files and texts.
    moved = {}
    for path in sorted(p for folder in ("examples", "utils", "metrics") for p in (root / folder).rglob("*.py")):
        name = path.relative_to(root).as_posix()
        new = name
        if name.startswith("utils/") and name.count("/") == 1:
            new = plan.UTILS.get(path.name, name)
            if new == name:
                for start, folder in plan.UTILS_PATTERNS.items():
                    if path.name.startswith(start):
                        new = f"{folder}/{path.name}"
                        plan.UTILS[path.name] = new
        moved[name] = new
    for name, new in moved.items():
        text = repo.rewrite_python(read(root / name), "other", new[:-3])
        text = deepened(text, name, new)
        written[new] = text
    written["utils/benchmarks/benchmark_goals.json"] = read(root / "utils/benchmark_goals.json")
    moved["utils/benchmark_goals.json"] = "utils/benchmarks/benchmark_goals.json"
    listed = run(root, "git", "ls-files").splitlines()
    for name in listed:
        keep = name.startswith(("CHANGELOG", "LICENSE", "tests/fixtures", "src/", "utils/benchmark_goals"))
        if keep or not name.endswith((".md", ".yaml", ".yml", ".toml", ".cfg", ".json", "Makefile", ".txt", ".cff")):
            continue
        path = root / name
        if path.is_symlink() or path.stat().st_size > 3_000_000:
            continue
        text = read(path)
        new = repo.rewrite_text(text, name)
        if new != text:
            written[name] = new
    written["src/itit_hf/__init__.py"] = byhand.package_init(repo, read(src / "__init__.py"))
    for folder, doc in plan.ROOM_DOCSTRINGS.items():
        written[f"src/itit_hf/{folder}/__init__.py"] = f'{HEADER}"""{doc}"""\n'
    for place in list(written):
        if place.startswith("tests/"):
            init = str(Path(place).parent / "__init__.py")
            written.setdefault(init, HEADER)
    written["examples/data_curation/__init__.py"] = (
        f'{HEADER}"""Which pairs are worth training on, and how much each counts; imported by the scripts of examples/."""\n'
    )

    # 6. By hand.
    byhand.apply(repo, written)

    # 7. Onto the disk.
    old = {f"src/itit_hf/{key.replace('.', '/')}.py" for key in repo.files if not key.startswith("tests/")}
    old |= {f"{key}.py" for key in repo.files if key.startswith("tests/")} | set(moved)
    for name in sorted(old - set(written)):
        (root / name).unlink()
    for name, text in written.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    byhand.copy_files(root)
    code = ["src", "tests", "examples", "utils", "metrics"]
    run(root, BIN / "ruff", "check", "--fix", "--select", "F401,I,F811", *code, check=False)
    run(root, BIN / "ruff", "format", *code, check=False)
    run(root, BIN / "ruff", "check", "--fix", "--select", "I", *code, check=False)
    wrap(root, code)
    run(root, BIN / "ruff", "format", *code, check=False)
    run(root, "git", "add", "-A")
    print(f"moved in {time.time() - began:.1f} s")


if __name__ == "__main__":
    main()
