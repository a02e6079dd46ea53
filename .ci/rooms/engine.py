"""Source files as chunks by name, and the rewriting of imports and of names of modules in text."""

import ast
import re
from dataclasses import dataclass, field
from pathlib import Path

import plan

HEADER = "# Copyright 2026 The itit_hf authors.\n# SPDX-License-Identifier: Apache-2.0\n"
Function = (ast.FunctionDef, ast.AsyncFunctionDef)


def position(lines, lineno, col):
    """Offset in the text of a node's place; ast counts bytes."""
    start = sum(len(line) for line in lines[: lineno - 1])
    return start + len(lines[lineno - 1].encode()[:col].decode())


@dataclass
class Chunk:
    names: list
    text: str
    node: ast.AST
    blank: int  # lines in front
    target: str = ""

    @property
    def is_logger(self):
        return self.names == ["logger"]


def bound_names(node):
    if isinstance(node, (*Function, ast.ClassDef)):
        return [node.name]
    if isinstance(node, ast.Assign):
        return [each.id for target in node.targets for each in ast.walk(target) if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store)]
    if isinstance(node, (ast.AnnAssign, ast.AugAssign)):
        return [node.target.id] if isinstance(node.target, ast.Name) else []
    names = []
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.stmt):
            names += bound_names(child)
    return names


def used_names(node):
    """Names that a chunk reads, those in annotations that are strings too."""
    names = {each.id for each in ast.walk(node) if isinstance(each, ast.Name)}
    for each in ast.walk(node):
        notes = []
        if isinstance(each, ast.arg):
            notes.append(each.annotation)
        if isinstance(each, Function):
            notes.append(each.returns)
        if isinstance(each, ast.AnnAssign):
            notes.append(each.annotation)
        for note in notes:
            for const in ast.walk(note) if note is not None else ():
                if isinstance(const, ast.Constant) and isinstance(const.value, str):
                    names.update(re.findall(r"\w+", const.value))
    return names


@dataclass
class File:
    key: str  # old module name, or old path of a test
    text: str
    tree: ast.Module = None
    chunks: list = field(default_factory=list)
    imports: dict = field(default_factory=dict)  # bound name -> [(node, alias)]
    docstring: str = ""
    last_import: int = 0  # line

    def __post_init__(self):
        self.tree = ast.parse(self.text)
        lines = self.text.splitlines(keepends=True)
        end = 0
        for index, node in enumerate(self.tree.body):
            first = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", []))])
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                self.last_import = node.end_lineno
                for alias in node.names:
                    self.imports.setdefault((alias.asname or alias.name).split(".")[0], []).append((node, alias))
                end = node.end_lineno
                continue
            if index == 0 and isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
                self.docstring = "".join(lines[node.lineno - 1 : node.end_lineno]).rstrip("\n")
                end = node.end_lineno
                continue
            between = lines[end : first - 1]
            if index == 0:  # the two header lines
                between = [line for line in between if line not in HEADER.splitlines(keepends=True)]
            body = "".join(between + lines[first - 1 : node.end_lineno])
            stripped = body.lstrip("\n")
            self.chunks.append(
                Chunk(bound_names(node), stripped.rstrip("\n"), node, len(body) - len(stripped))
            )
            end = node.end_lineno
        tail = "".join(lines[end:]).strip("\n")
        if tail and self.chunks:
            self.chunks[-1].text += "\n\n" + tail


class Repository:
    def __init__(self, root: Path):
        self.root = root
        self.files = {}  # key -> File
        self.defs = {}  # (key, name) -> target
        self.default = {}  # key -> target
        self.namesake = {"image_processing_itit": "models/image_processing_itit"}
        self.namespaces = {}  # target -> names bound there
        self.targets_of = {}  # key -> targets

    # Which target a name has.

    def resolve(self, key, name=None):
        if name is None:
            return self.namesake.get(key, self.default[key])
        if (key, name) in self.defs:
            return self.defs[key, name]
        for target in [self.default[key], *sorted(self.targets_of.get(key, ()))]:
            if name in self.namespaces.get(target, ()):
                return target
        return self.default[key]

    def assign(self, key, default, leaves):
        """Give each chunk of a file its target; private helpers follow their users."""
        file = self.files[key]
        self.default[key] = default
        explicit = {name: target for target, names in leaves.items() for name in names}
        for chunk in file.chunks:
            found = {explicit[name] for name in chunk.names if name in explicit}
            found |= {
                target
                for name, target in explicit.items()
                if name.startswith("=") and not chunk.names and ast.unparse(chunk.node).startswith(name[1:])
            }
            if len(found) > 1:
                raise SystemExit(f"{key}: {chunk.names} go to {found}")
            chunk.target = found.pop() if found else ""
        for name in explicit:
            if not name.startswith("=") and not any(name in chunk.names for chunk in file.chunks):
                print(f"note: {key} has no {name} (any more)")
        changed = True
        while changed:
            changed = False
            for chunk in file.chunks:
                if chunk.target or chunk.is_logger or not chunk.names:
                    continue
                if not all(name.startswith("_") for name in chunk.names):
                    continue
                users = {
                    (other.target or default)
                    for other in file.chunks
                    if other is not chunk and used_names(other.node) & set(chunk.names)
                }
                if len(users) == 1 and users != {default}:
                    # A helper whose only user is undecided yet stays.
                    chunk.target = users.pop()
                    changed = True
        for chunk in file.chunks:
            if not chunk.target and not chunk.names:
                homes = {name: other.target or default for other in file.chunks for name in other.names}
                read = [n.id for n in ast.walk(chunk.node) if isinstance(n, ast.Name) and n.id in homes]
                chunk.target = homes[read[-1]] if read else default
            chunk.target = chunk.target or default
            for name in chunk.names:
                if not chunk.is_logger:
                    self.defs[key, name] = chunk.target
        self.targets_of[key] = {chunk.target for chunk in file.chunks} | {default}

    # How a target is spelled in an import.

    def spell(self, target, importer):
        """Module of an import statement of `target` (path from src/itit_hf, or examples/..., tests/...) in a file at
        `importer` (path from the root, without .py)."""
        if target.startswith("tests/"):
            return relative(target, importer)
        if target.startswith("examples/data_curation/"):
            if importer.startswith("examples/data_curation/"):
                return relative(target, importer)
            return target.removeprefix("examples/").replace("/", ".")
        if importer.startswith("src/itit_hf/"):
            return relative("src/itit_hf/" + target, importer)
        return "itit_hf." + target.replace("/", ".")

    def place(self, target):
        """Path from the root, without .py."""
        return target if target.startswith(("tests/", "examples/", "tests")) else f"src/itit_hf/{target}"

    # Rewriting.

    def old_module(self, node, context):
        """(key prefix or key, is_ours): what an ImportFrom names, in old terms."""
        if node.level == 0:
            if node.module == "itit_hf":
                return "", True
            if node.module.startswith("itit_hf."):
                return node.module.removeprefix("itit_hf."), True
            if node.module.startswith("tests."):
                return node.module.replace(".", "/"), True
            return None, False
        if context.startswith("tests/"):
            base = context.split("/")[:-1]
            base = base[: len(base) - (node.level - 1)]
            return "/".join([*base, *(node.module or "").split(".")]).rstrip("/"), True
        if context.startswith("src:"):
            base = context.removeprefix("src:").split(".")[:-1]
            base = base[: len(base) - (node.level - 1)] if node.level > 1 else base
            return ".".join([*base, *([node.module] if node.module else [])]), True
        return None, False

    def import_lines(self, node, context, importer, text, whole=None):
        """New statements for one of our imports, or None where it stays; and renames of module aliases, which are
        looked for in `text`, a part of the file `whole`."""
        whole = text if whole is None else whole
        renames = {}
        if isinstance(node, ast.Import):
            ours = [a for a in node.names if a.name.startswith("itit_hf.")]
            if not ours:
                return None, renames
            lines = []
            for alias in node.names:
                key = alias.name.removeprefix("itit_hf.")
                if key not in self.default:
                    lines.append(f"import {alias.name}" + (f" as {alias.asname}" if alias.asname else ""))
                    continue
                target = self.resolve(key)
                name = alias.asname
                lines.append(f"import {self.spell(target, importer)}" + (f" as {name}" if name else ""))
            return lines, renames
        module, ours = self.old_module(node, context)
        if not ours:
            return None, renames
        groups = {}
        for alias in node.names:
            inner = f"{module}.{alias.name}" if module and not module.startswith("tests") else alias.name
            inner = f"{module}/{alias.name}" if module.startswith("tests") else inner
            if inner in self.default and (module, alias.name) not in self.defs:
                self.module_alias(alias, inner, importer, (text, whole), groups, renames)
            elif module in self.default:
                target = self.resolve(module, alias.name)
                if self.place(target) != importer:
                    groups.setdefault(self.spell(target, importer), []).append((alias.name, alias.asname))
            else:
                spelled = "." * node.level + (node.module or "")
                if module.startswith("tests"):
                    spelled = relative(module, importer)
                groups.setdefault(spelled, []).append((alias.name, alias.asname))
        lines = []
        for spelled, names in groups.items():
            written = ", ".join(name + (f" as {as_name}" if as_name else "") for name, as_name in names)
            lines.append(f"from {spelled} import {written}")
        return lines, renames

    def module_alias(self, alias, key, importer, texts, groups, renames):
        """`from itit_hf import hub`: which of the new modules are meant, by what is read of it."""
        local = alias.asname or alias.name

        def reads(tree):
            found = {}  # target -> places
            for node in ast.walk(tree):
                if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == local:
                    found.setdefault(self.resolve(key, node.attr), []).append(node.value)
                if isinstance(node, ast.Call) and len(node.args) > 1:
                    first, second = node.args[:2]
                    if isinstance(first, ast.Name) and first.id == local and isinstance(second, ast.Constant):
                        found.setdefault(self.resolve(key, second.value), []).append(first)
            return found

        part, tree = (ast.parse(text) for text in texts)
        read, everywhere = reads(part), reads(tree)
        known = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name)}
        known |= {n.arg for n in ast.walk(tree) if isinstance(n, ast.arg)}
        for target in sorted(read) or [self.resolve(key)]:
            spelled = self.spell(target, importer)
            new = spelled.rpartition(".")[2]
            folder = spelled[: -len(new)]
            folder = folder if set(folder) <= {"."} else folder.rstrip(".")
            name = new
            if new != local:
                free = new not in known and not alias.asname
                name = new if free else (local if len(everywhere) <= 1 else f"{new}_module")
            groups.setdefault(folder, []).append((new, None if name == new else name))
            if name != local:
                for use in read.get(target, ()):
                    renames[use.lineno, use.col_offset, use.end_col_offset] = name

    def alias_renames(self, file, context, importer, text):
        """Edits of a part of a file for the aliases of modules that its head imports."""
        edits = []
        lines = text.splitlines(keepends=True)
        for found in file.imports.values():
            for node, alias in found:
                if isinstance(node, ast.ImportFrom):
                    single = ast.copy_location(ast.ImportFrom(node.module, [alias], node.level), node)
                    _, renames = self.import_lines(single, context, importer, text, file.text)
                    for (line, col, end_col), name in renames.items():
                        edits.append((position(lines, line, col), position(lines, line, end_col), name))
        for start, end, new in sorted(set(edits), reverse=True):
            text = text[:start] + new + text[end:]
        return text

    def rewrite_python(self, text, context, importer):
        """Imports by meaning, then names of modules in strings and comments."""
        tree = ast.parse(text)
        lines = text.splitlines(keepends=True)
        edits = []
        for node in ast.walk(tree):
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                new, renames = self.import_lines(node, context, importer, text)
                start = position(lines, node.lineno, node.col_offset)
                end = position(lines, node.end_lineno, node.end_col_offset)
                if new is None:
                    edits.append((start, end, text[start:end]))
                    continue
                indent = " " * node.col_offset
                if isinstance(node, ast.ImportFrom) and "noqa" in text[start:end]:
                    new = [with_comments(line, node, lines) for line in new]
                if new:
                    edits.append((start, end, f"\n{indent}".join(new)))
                else:  # of the file itself
                    line_end = text.find("\n", end) + 1
                    edits.append((start - node.col_offset, line_end, ""))
                for (line, col, end_col), name in renames.items():
                    edits.append((position(lines, line, col), position(lines, line, end_col), name))
        taken = [(start, end) for start, end, _ in edits]
        for start, end, new in self.text_edits(text, importer, is_python=True):
            if not any(start < b and a < end for a, b in taken):
                edits.append((start, end, new))
        for start, end, new in sorted(set(edits), reverse=True):
            text = text[:start] + new + text[end:]
        return text

    def rewrite_text(self, text, importer):
        for start, end, new in sorted(self.text_edits(text, importer, is_python=False), reverse=True):
            text = text[:start] + new + text[end:]
        return text

    def dotted(self, target, prefix="itit_hf."):
        if target.startswith("examples/"):
            return target.removeprefix("examples/").replace("/", ".")
        return prefix + target.replace("/", ".")

    def text_edits(self, text, importer, is_python):
        edits = []
        taken = []

        def add(start, end, new):
            if text[start:end] != new and not any(start < b and a < end for a, b in taken):
                taken.append((start, end))
                edits.append((start, end, new))

        for m in re.finditer(r"\bitit_hf\.((?:metrics\.)?[a-z_0-9]+)(?:\.(\w+))?", text):
            key, name = m[1], m[2]
            if key not in self.default or key in ("metrics",):
                continue
            if name and (key, name) not in self.defs and f"{key}.{name}" not in self.default and not any(
                name in self.namespaces.get(t, ()) for t in self.targets_of.get(key, ())
            ):
                target, tail = self.resolve(key), f".{name}"
            else:
                target, tail = self.resolve(key, name), f".{name}" if name else ""
            add(m.start(), m.end(), self.dotted(target) + tail)
        for m in re.finditer(r"(?<![\w.])(src/)?itit_hf/((?:metrics/)?\w+)\.py\b", text):
            key = m[2].replace("/", ".")
            if key in self.default:
                target = self.resolve(key)
                new = f"{target}.py" if target.startswith("examples/") else f"{m[1] or ''}itit_hf/{target}.py"
                add(m.start(), m.end(), new)
        for m in re.finditer(r"(?<=`)(~?)((?:metrics\.)?\w+)\.(\w+)(?=[`(.])", text):
            if (m[2], m[3]) in self.defs:
                add(m.start(), m.end(), m[1] + self.dotted(self.defs[m[2], m[3]], "") + "." + m[3])
        for m in re.finditer(r"\btests([/.])((?:\w+[/.])?(?:test_\w+|testing_utils))(\.py(?:::(\w+))?)?", text):
            key = "tests/" + m[2].replace(".", "/")
            if key in self.default:
                target = self.resolve(key, m[4]) if m[4] else self.resolve(key)
                add(m.start(), m.end(), target.replace("/", m[1]) + (m[3] or ""))
        for m in re.finditer(r"(?<=\")((?:\w+/)?test_\w+)\.py::(\w+)", text):
            key = "tests/" + m[1]
            if key in self.default:
                add(m.start(), m.end(), self.resolve(key, m[2]).removeprefix("tests/") + ".py::" + m[2])
        for m in re.finditer(r"\butils/(\w+\.(?:py|json))", text):
            if m[1] in plan.UTILS:
                add(m.start(), m.end(), plan.UTILS[m[1]])
        for m in re.finditer(r"\"utils\" / \"(\w+\.(?:py|json))\"", text):
            if m[1] in plan.UTILS:
                add(m.start(), m.end(), " / ".join(f'"{part}"' for part in plan.UTILS[m[1]].split("/")))
        if not is_python:
            for m in re.finditer(r"(?<=`)(\w+)\.py(?=`)", text):
                key = m[1]
                elsewhere = any((self.root / f / f"{key}.py").exists() for f in ("examples", "utils"))
                if key in self.default and not elsewhere:
                    target = self.resolve(key)
                    add(m.start(), m.end(), f"{target}.py")
        return edits


def with_comments(line, node, lines):
    """An import statement with the comments that its names have in a statement of several lines."""
    comments = {}
    for alias in node.names:
        code, mark, comment = lines[alias.lineno - 1].partition("#")
        if mark:
            comments[alias.name] = "  # " + comment.strip()
    head, _, names = line.partition(" import ")
    if not any(name.split(" as ")[0] in comments for name in names.split(", ")):
        return line
    rows = "".join(f"    {name},{comments.get(name.split(' as ')[0], '')}\n" for name in names.split(", "))
    return f"{head} import (\n{rows})"


def relative(target, importer):
    """`target` as a relative module from the file at `importer`; both are paths from the root without .py."""
    to, here = target.split("/"), importer.split("/")[:-1]
    common = 0
    while common < min(len(to) - 1, len(here)) and to[common] == here[common]:
        common += 1
    return "." * (len(here) - common + 1) + ".".join(to[common:])
