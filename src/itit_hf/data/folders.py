# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""What a folder holds, as a dataset: which files, of which kind, in which splits.

A dataset is what its owner laid down, and never what names happen to look like. In this order: the files that the
card (`README.md`) names; `metadata.jsonl`, `.csv` or `.parquet`, which is the whole of it; folders named after splits,
if all files lie in such folders; images, whatever text lies beside them; parquet, arrow and tar files; files of text.
Left aside are hidden files, links to nothing, and what a run of ours wrote.
"""

import hashlib
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import PurePath

import yaml
from huggingface_hub import metadata_load
from transformers.utils import logging

from .text_files import COMPRESSIONS

logger = logging.get_logger(__name__)

IMAGE_ENDINGS = frozenset(
    (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".dib", ".tif", ".tiff")
    + (".ppm", ".pgm", ".pbm", ".pnm", ".avif", ".jp2", ".j2k", ".jpx")
)
SIDECAR_ENDINGS = (".txt", ".caption")  # beside an image, with its name
# Kind of a file by its ending; `.gz`, `.bz2` or `.xz` may follow those of text and of archives.
KINDS = {
    ".tar": "tar",
    ".tgz": "tar",
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "csv",
    ".txt": "txt",
}
CONTAINERS = ("tar", "parquet", "arrow")  # of images, as well as of text
METADATA = re.compile(r"metadata\.((jsonl|csv)(\.(gz|bz2|xz))?|parquet)", re.IGNORECASE)
SPLIT_WORDS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing", "eval", "evaluation"),
}
# What lies in the folder of a run, a checkpoint or a token dataset, and nowhere else.
_OF_A_RUN = re.compile(
    r"(model_index|trainer_state|training_args|tokens|adapter_config)\.json|events\.out\.tfevents.*"
    r"|(diffusion_pytorch_|adapter_)?model\.safetensors(\.index\.json)?|training_args\.bin|optimizer\.pt"
    r"|checkpoint-(\d+|best|last)"
)
_PARTS_OF_A_RUN = ("pipeline/model_index.json", "adapter/adapter_config.json")
_SAMPLE_GRID = re.compile(r"step-\d+\.png")
_IMAGES_OF_A_RUN = ("before-after.png",)  # in its own folder
# Images that nothing here reads.
_OTHER_IMAGES = (".heic", ".heif", ".jxl", ".svg", ".psd", ".tga", ".ico", ".cr2", ".nef", ".dng")
# JSON and text that is about something, and no rows.
_NOT_DATA = re.compile(
    r"(.*_?config|.*_results|.*_stats|model_index|trainer_state|training_args|tokens|dataset_info|dataset_infos"
    r"|dataset_dict|state|tokenizer|.*\.index)\.json|(readme|licen[cs]e|copying|notice|requirements)\b.*\.txt",
    re.IGNORECASE,
)
_NUM_NAMED = 3  # folders that a message names
_SHARD = re.compile(r"(\w+(\.\w+)*)-\d{5}-of-\d{5}")


@dataclass
class SplitFiles:
    """Files that make one split.

    Args:
        kind (`str`): `"metadata"` or `"images"`, or one of `KINDS`.
        paths (`list[str]`): The files; for images the folders that hold them.
        state (`str`): Changes when one of the files does.
        root (`str`): Folder that names are told from.
        num_images (`int`): Images in it, for metadata to be counted against.
        labels (`tuple[str, ...]`): Names of the classes, if each folder of images is one.
        has_captions (`bool`): Files with captions lie beside images.
    """

    kind: str
    paths: list[str]
    state: str
    root: str = ""
    num_images: int = 0
    labels: tuple[str, ...] = ()
    has_captions: bool = False


@dataclass
class _Directory:
    """What one directory holds."""

    path: str  # as seen from the root; "" is the root itself
    num_images: int = 0
    has_sidecars: bool = False
    image_state: str = ""
    metadata: list[str] = field(default_factory=list)
    tables: list[tuple[str, str]] = field(default_factory=list)  # (kind, path)

    @property
    def parts(self) -> list[str]:
        return self.path.split(os.sep) if self.path else []


def kind_of(name: str) -> str | None:
    """The kind of a file by its name, in any case; `None` for one that holds no rows.

    Args:
        name (`str`): Such as `"a/Captions.JSONL.gz"`.
    """
    stem, ending = os.path.splitext(name.lower())
    if ending in COMPRESSIONS and ending not in KINDS:
        kind = KINDS.get(os.path.splitext(stem)[1])
        return None if kind in ("parquet", "arrow") else kind
    return KINDS.get(ending)


def stem_of(name: str) -> str:
    """The name of a file without its endings, those of `KINDS` and of compression.

    Args:
        name (`str`): Such as `"a/wiki.train.txt.gz"`, of which `"wiki.train"` is left.
    """
    stem, ending = os.path.splitext(os.path.basename(name))
    is_packed = ending.lower() in COMPRESSIONS and ending.lower() not in KINDS
    return os.path.splitext(stem)[0] if is_packed else stem


def file_state(paths: Sequence[str]) -> str:
    """A digest of which files these are, and of their sizes and times of change.

    Args:
        paths (`Sequence[str]`): The files.
    """
    digest = hashlib.sha256()
    for path in paths:
        state = os.stat(path)
        digest.update(
            f"{os.path.abspath(path)}/{state.st_size}/{state.st_mtime_ns}".encode("utf-8", "surrogateescape")
        )
    return digest.hexdigest()


def images_in(folder: str) -> Iterator[tuple[str, str | None]]:
    """The images directly in a folder, in order, each with the file of its caption, if there is one.

    Args:
        folder (`str`): Where to look.

    Yields:
        `(image, caption)`: Paths.
    """
    images: list[str] = []
    texts: dict[str, str] = {}  # by the name that they share with their image
    with os.scandir(folder) as entries:
        for entry in entries:
            stem, ending = os.path.splitext(entry.name)
            if entry.name.startswith(".") or not entry.is_file():
                continue
            if ending.lower() in IMAGE_ENDINGS:
                images.append(entry.name)
            elif ending.lower() in SIDECAR_ENDINGS:
                texts.setdefault(stem, entry.path)
    for name in sorted(images):
        stem = os.path.splitext(name)[0]
        yield os.path.join(folder, name), texts.get(stem, texts.get(name))


def find_splits(folder: str) -> dict[str, SplitFiles]:
    """Find what a folder holds.

    Args:
        folder (`str`): The folder.

    Returns:
        `dict[str, SplitFiles]`: By the names of the splits; `"train"` is the only one where none is named.

    Raises:
        ValueError: If it holds nothing that can be read, or what is meant cannot be told.
    """
    declared = _declared_splits(folder) or _saved_splits(folder)
    if declared:
        return declared
    directories = _without_companions(folder, list(_walk(folder)))
    by_split: dict[str, list[_Directory]] = {}
    depth = _common_depth(directories)
    for directory in directories:
        below = directory.parts[depth : depth + 1]
        by_split.setdefault((_split_word(below[0]) if below else None) or "", []).append(directory)
    if directories and "" not in by_split:  # all files lie in folders that are named after splits
        return _with_common_labels({name: _whole(folder, part, depth + 1) for name, part in by_split.items()})
    whole = _with_common_labels({"train": _whole(folder, directories, depth)})
    return whole if whole["train"].kind in ("metadata", "images") else _splits_by_name(whole["train"])


def _walk(folder: str) -> Iterator[_Directory]:
    """All directories that hold something, from the root down, in order; nothing of a run of ours below the root."""
    dangling: list[str] = []
    of_runs: list[str] = []
    unread: list[str] = []
    waiting = [""]
    while waiting:
        path = waiting.pop()
        at = os.path.join(folder, path)
        with os.scandir(at) as entries:
            visible = [entry for entry in entries if not entry.name.startswith((".", "__MACOSX"))]
        visible.sort(key=lambda entry: entry.name)
        if _is_of_a_run(at, path, [entry.name for entry in visible]):
            if path:
                of_runs.append(path)
                continue
            visible = [entry for entry in visible if entry.name not in _IMAGES_OF_A_RUN]
        files = [entry for entry in visible if entry.is_file()]
        unread += [os.path.join(path, file.name) for file in files if file.name.lower().endswith(_OTHER_IMAGES)]
        folders = [entry.name for entry in visible if entry.is_dir() and not _leads_upward(entry)]
        waiting += [os.path.join(path, name) for name in reversed(folders)]
        dangling += [
            os.path.join(path, entry.name)
            for entry in visible
            if entry.is_symlink() and not os.path.exists(entry.path) and _is_data(entry.name)
        ]
        directory = _examined(path, files)
        if directory.num_images or directory.tables or directory.metadata:
            yield directory
    if dangling:
        logger.warning(f"`{folder}`: {len(dangling)} links lead to nothing and are left aside, such as {dangling[0]}")
    if unread:
        logger.warning(f"`{folder}`: {len(unread)} images are of kinds that are not read, such as {unread[0]}")
    if of_runs:
        logger.warning(f"`{folder}`: folders that runs wrote are left aside: {', '.join(of_runs[:_NUM_NAMED])}")


def _leads_upward(entry: os.DirEntry) -> bool:
    """Whether a link makes a circle."""
    if not entry.is_symlink():
        return False
    target = os.path.realpath(entry.path)
    return os.path.commonpath([target, os.path.realpath(os.path.dirname(entry.path))]) == target


def _is_data(name: str) -> bool:
    return _is_image(name) or kind_of(name) is not None


def _is_image(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in IMAGE_ENDINGS


def _is_of_a_run(at: str, path: str, names: list[str]) -> bool:
    """Whether a run wrote this folder, which is `path` as seen from the dataset."""
    if any(map(_OF_A_RUN.fullmatch, names)) or any(os.path.exists(os.path.join(at, part)) for part in _PARTS_OF_A_RUN):
        return True
    files = [name for name in names if "." in name]
    return "samples" in path.split(os.sep) and bool(files) and all(map(_SAMPLE_GRID.fullmatch, files))


def _examined(path: str, files: list[os.DirEntry]) -> _Directory:
    found = _Directory(path)
    digest = hashlib.sha256()
    images = {file.name for file in files if _is_image(file.name)}
    stems = images | {os.path.splitext(name)[0] for name in images}
    for file in files:
        stem, ending = os.path.splitext(file.name)
        is_sidecar = ending.lower() in SIDECAR_ENDINGS and stem in stems
        if file.name in images or is_sidecar:
            state = file.stat()
            digest.update(f"{file.name}/{state.st_size}/{state.st_mtime_ns}\n".encode("utf-8", "surrogateescape"))
            found.num_images += not is_sidecar
            found.has_sidecars |= is_sidecar
        elif METADATA.fullmatch(file.name):
            found.metadata.append(os.path.join(path, file.name))
        elif (kind := kind_of(file.name)) is not None and (kind in CONTAINERS or _is_text_data(file.name, stems)):
            found.tables.append((kind, os.path.join(path, file.name)))
    found.image_state = digest.hexdigest()
    return found


def _is_text_data(name: str, stems: set[str]) -> bool:
    """Whether a file of text may hold rows: not if it is about something, or about one image beside it."""
    return not _NOT_DATA.fullmatch(name) and stem_of(name) not in stems


def _without_companions(folder: str, directories: list[_Directory]) -> list[_Directory]:
    """Leave aside files that are about others: text where there are images or files that may hold some, and tables of
    img2dataset, which are called as the archive or the folder of images that they list."""
    tables = [table for directory in directories for table in directory.tables]
    of_images = {directory.path for directory in directories if directory.num_images}
    of_images |= {os.path.splitext(path)[0] for kind, path in tables if kind == "tar"}
    tables = [(kind, path) for kind, path in tables if kind != "parquet" or os.path.splitext(path)[0] not in of_images]
    has_metadata = any(directory.metadata for directory in directories)
    if has_metadata or of_images or any(kind in CONTAINERS for kind, _ in tables):
        texts = [path for kind, path in tables if kind not in CONTAINERS]
        tables = [(kind, path) for kind, path in tables if kind in CONTAINERS]
        if texts and not has_metadata:
            logger.warning(
                f"`{folder}`: {len(texts)} files of text are left aside, such as {texts[0]}: captions of images stand "
                "in metadata.jsonl, .csv or .parquet, or in a .txt beside each"
            )
    kept = set(tables)
    for directory in directories:
        directory.tables = [table for table in directory.tables if table in kept]
    return [directory for directory in directories if directory.num_images or directory.tables or directory.metadata]


def _common_depth(directories: list[_Directory]) -> int:
    """How many folders these have in common, up to the first that is named after a split."""
    common = os.path.commonprefix([directory.parts for directory in directories])
    return next((number for number, name in enumerate(common) if _split_word(name)), len(common))


def _split_word(name: str) -> str | None:
    """The split that a folder is named after, such as `Train`, `val` or `train2017`."""
    word = re.sub(r"[-._ 0-9]*$", "", name.lower())
    return next((split for split, words in SPLIT_WORDS.items() if word in words), None)


def _whole(folder: str, directories: list[_Directory], depth: int) -> SplitFiles:
    """All of these directories as one split, which begins so many folders below."""
    metadata = _metadata_of(folder, directories)
    images = [directory for directory in directories if directory.num_images]
    num_images = sum(directory.num_images for directory in images)
    states = [os.path.abspath(folder), *(f"{directory.path}/{directory.image_state}" for directory in images)]
    image_state = hashlib.sha256("\n".join(states).encode("utf-8", "surrogateescape")).hexdigest()
    if metadata:
        return SplitFiles("metadata", metadata, file_state(metadata) + image_state, folder, num_images)
    tables: dict[str, list[str]] = {}
    for directory in directories:
        for kind, path in directory.tables:
            tables.setdefault(kind, []).append(os.path.join(folder, path))
    containers = [kind for kind in CONTAINERS if kind in tables]
    if images and not containers:
        paths = [os.path.join(folder, directory.path) for directory in images]
        has_captions = any(directory.has_sidecars for directory in images)
        labels = () if has_captions else _class_names(images, depth)
        return SplitFiles("images", paths, image_state, folder, num_images, labels, has_captions)
    if images and len(images[0].parts) <= depth:
        raise ValueError(
            f"`{folder}` holds {num_images} images and {len(tables[containers[0]])} {containers[0]} files: name those "
            f"that are meant, such as {folder}/*.{containers[0]}, or move the others away"
        )
    if images:
        logger.warning(f"`{folder}`: {num_images} images in folders beside {containers[0]} files are not read")
    kind = _only_kind(folder, tables)
    return SplitFiles(kind, tables[kind], file_state(tables[kind]), folder)


def _metadata_of(folder: str, directories: list[_Directory]) -> list[str]:
    """The metadata that counts: the file that lies above all others, or all of them."""
    for directory in directories:
        if len(directory.metadata) > 1:
            raise ValueError(f"`{folder}`: keep one file of metadata in a folder, got {directory.metadata}")
    found = [path for directory in directories for path in directory.metadata]
    above = [path for path in found if all(_is_below(other, os.path.dirname(path)) for other in found)]
    return [os.path.join(folder, path) for path in above[:1] or found]


def _is_below(path: str, folder: str) -> bool:
    return not folder or path.startswith(folder + os.sep)


def _class_names(images: list[_Directory], depth: int) -> tuple[str, ...]:
    """Names of the classes, if all images lie equally deep in folders."""
    depths = {len(directory.parts) for directory in images}
    if len(depths) > 1 or min(depths) <= depth:
        return ()
    return tuple(sorted({directory.parts[-1] for directory in images}))


def _with_common_labels(splits: dict[str, SplitFiles]) -> dict[str, SplitFiles]:
    """Classes have one number in all splits; a single one, or one that a split lacks altogether, says nothing."""
    names = sorted({name for files in splits.values() for name in files.labels})
    is_labelled = len(names) > 1 and all(files.labels for files in splits.values())
    return {split: replace(files, labels=tuple(names) if is_labelled else ()) for split, files in splits.items()}


def _only_kind(folder: str, tables: dict[str, list[str]]) -> str:
    if not tables:
        wanted = f"images, metadata.jsonl, .csv or .parquet, or files that end in {', '.join(KINDS)}"
        raise ValueError(f"`{folder}` holds nothing that can be read; wanted {wanted}")
    if len(tables) > 1:
        examples = {kind: os.path.relpath(paths[0], folder) for kind, paths in tables.items()}
        raise ValueError(f"`{folder}` holds files of several kinds, name those that are meant: {examples}")
    (kind,) = tables
    return kind


def _splits_by_name(whole: SplitFiles) -> dict[str, SplitFiles]:
    """Splits by the names of files that are no images, if each of them is named after one."""
    names = [_shard_split(path) for path in whole.paths]
    if None in names:
        names = [_word_split(path) for path in whole.paths]
    parts: dict[str, list[str]] = {}
    for name, path in zip(names, whole.paths, strict=True):
        parts.setdefault("train" if None in names else str(name), []).append(path)
    for name, paths in parts.items():
        _warn_of_missing_shards(whole.root, name, paths)
    return {name: SplitFiles(whole.kind, paths, file_state(paths), whole.root) for name, paths in parts.items()}


def _shard_split(path: str) -> str | None:
    """The split of `paired-00000-of-00003.parquet`."""
    shard = _SHARD.fullmatch(stem_of(path))
    return None if shard is None else shard[1]


def _warn_of_missing_shards(folder: str, name: str, paths: list[str]):
    """Shards say how many there are: `train-00000-of-00003.parquet`."""
    if all(_SHARD.fullmatch(stem_of(path)) for path in paths):
        num_shards = max(int(stem_of(path)[-5:]) for path in paths)
        if len(paths) < num_shards:
            logger.warning(f"`{folder}`: {len(paths)} of the {num_shards} files of {name!r} are there")


def _word_split(path: str) -> str | None:
    """The split of `captions_train.csv`: the only one that is a word of the name."""
    words = set(re.split(r"[^a-z]+", stem_of(path).lower()))
    found = [split for split, names in SPLIT_WORDS.items() if words & set(names)]
    return found[0] if len(found) == 1 else None


def _declared_splits(folder: str) -> dict[str, SplitFiles]:
    """What the card says, in the form of the Hub: `configs`, with `data_files` or `data_dir`."""
    card = os.path.join(folder, "README.md")
    configs = _front_matter(card).get("configs") if os.path.isfile(card) else None
    if not isinstance(configs, list) or not configs:
        return {}
    chosen = [c for c in configs if c.get("default") or c.get("config_name", "default") == "default"] or configs
    if len(chosen) > 1:
        names = [config.get("config_name") for config in configs]
        raise ValueError(f"`{card}`: one of its configurations must be the default, got {names}")
    unread = set(chosen[0]) - {"config_name", "data_files", "data_dir", "default", "version", "description"}
    if unread:
        logger.warning(f"`{card}`: these options of its configuration are not used: {sorted(unread)}")
    data_dir = os.path.join(folder, chosen[0].get("data_dir") or "")
    patterns = _patterns(chosen[0].get("data_files"))
    if not patterns:
        return find_splits(data_dir) if os.path.realpath(data_dir) != os.path.realpath(folder) else {}
    return {split: _declared_files(data_dir, split, given) for split, given in patterns.items()}


def _front_matter(card: str) -> dict:
    try:
        return metadata_load(card) or {}
    except (ValueError, yaml.YAMLError) as error:  # UnicodeDecodeError is one, too
        logger.warning(f"`{card}`: its front matter cannot be read, and names no splits: {error}")
        return {}


def _patterns(data_files) -> dict[str, list[str]]:
    """Patterns of files by split, from any of the forms that the Hub knows."""
    if data_files is None:
        return {}
    if isinstance(data_files, (str, list)) and not any(isinstance(each, dict) for each in data_files):
        data_files = {"train": data_files}
    if isinstance(data_files, list):
        data_files = {each["split"]: each["path"] for each in data_files}
    return {str(split): [paths] if isinstance(paths, str) else list(paths) for split, paths in data_files.items()}


def _declared_files(folder: str, split: str, patterns: list[str]) -> SplitFiles:
    directories = []
    for directory in _walk(folder):
        at = os.path.join(folder, directory.path)
        names = [path for path, _ in images_in(at)] if directory.num_images else []
        is_meant = [_matches(os.path.relpath(path, folder), patterns) for path in names]
        if any(is_meant) and not all(is_meant):
            raise ValueError(f"`{at}`: the card names some of its images for {split!r}: use metadata.csv for these")
        kept = _Directory(directory.path, metadata=[p for p in directory.metadata if _matches(p, patterns)])
        kept.tables = [(kind, path) for kind, path in directory.tables if _matches(path, patterns)]
        if any(is_meant):
            kept.num_images = directory.num_images
            kept.image_state = directory.image_state
            kept.has_sidecars = directory.has_sidecars
        if kept.num_images or kept.metadata or kept.tables:
            directories.append(kept)
    if not directories:
        raise ValueError(f"`{folder}`: there is no file for the split {split!r}, which its card says is {patterns}")
    return _whole(folder, directories, _common_depth(directories))


def _matches(path: str, patterns: list[str]) -> bool:
    """Whether a path, or a folder above it, matches a pattern: `**` is any number of folders, and `*` goes up to the
    next slash."""
    for pattern in patterns:
        expression = re.escape(os.path.normpath(pattern)).replace(r"\*\*/", "(.*/)?").replace(r"\*\*", ".*")
        expression = expression.replace(r"\*", "[^/]*").replace(r"\?", "[^/]").replace(r"\[", "[").replace(r"\]", "]")
        if re.fullmatch(f"{expression}(/.*)?", PurePath(path).as_posix()):
            return True
    return False


def _saved_splits(folder: str) -> dict[str, SplitFiles]:
    """What `save_to_disk` of the datasets library wrote."""
    names = sorted(os.listdir(folder))
    if {"state.json", "dataset_info.json"} <= set(names):
        files = [os.path.join(folder, name) for name in names if re.fullmatch(r"data-.*\.arrow", name)]
        return {"train": SplitFiles("arrow", files, file_state(files), folder)}
    if "dataset_dict.json" not in names:
        return {}
    folders = {name: os.path.join(folder, name) for name in names if os.path.isdir(os.path.join(folder, name))}
    found = {name: _saved_splits(at) for name, at in folders.items()}
    return {name: each["train"] for name, each in found.items() if each}
