# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""The committed general text encoder reads what people write about images."""

import importlib.util
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForTextEncoding, AutoTokenizer

from itit_hf.emoji_scenes.categories import CATEGORIES, COLOURS
from itit_hf.emoji_scenes.free_forms import CATEGORY_SYNONYMS, COLOUR_SYNONYMS

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "checkpoints" / "text-encoder-minilm"


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(FOLDER)


@pytest.fixture(scope="module")
def features_of(tokenizer):
    encoder = AutoModelForTextEncoding.from_pretrained(FOLDER, dtype=torch.float32).eval()

    @torch.no_grad()
    def features_of(texts):
        inputs = tokenizer(texts, padding=True, return_tensors="pt")
        mask = inputs.attention_mask[..., None]
        features = encoder(**inputs).last_hidden_state
        return torch.nn.functional.normalize((features * mask).sum(1) / mask.sum(1), dim=-1)

    return features_of


def test_it_is_below_thirty_megabytes():
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 30_500_000
    assert (FOLDER / "model.safetensors").stat().st_size < 30_000_000


def test_categories_and_colours_are_three_pieces_at_most(tokenizer):
    pieces = {name: tokenizer.tokenize(name) for name in (*CATEGORIES, *COLOURS)}
    assert pieces["kangaroo"] == ["kangaroo"]
    assert {name for name, cut in pieces.items() if len(cut) > 3} == set()


@pytest.mark.parametrize("text", ["ukulele", "a brontosaurus in Kraków", "Größe 42%", "バス", "l'été"])
def test_no_text_is_unknown(tokenizer, text):
    assert tokenizer.unk_token not in tokenizer.tokenize(text)


@pytest.mark.parametrize(
    ("synonyms", "names", "least"), [(CATEGORY_SYNONYMS, CATEGORIES, 0.65), (COLOUR_SYNONYMS, COLOURS, 0.35)]
)
def test_synonyms_are_near_to_what_they_mean(features_of, synonyms, names, least):
    names = list(names)
    pairs = [(word, name) for name, known in synonyms.items() for word in (*known.trained, *known.held_out)]
    nearest = (features_of([word for word, _ in pairs]) @ features_of(names).T).argmax(-1)
    right = [names[index] == name for index, (_, name) in zip(nearest.tolist(), pairs, strict=True)]
    assert sum(right) / len(right) > least


# As WordNet's files: offset, number of the lexicographers' file, kind, number of words, words, rest, definition.
SYNSETS = {
    "noun": [
        "  1 the licence has words of its own, such as copyright",
        "00000001 05 n 02 kitten 0 kitty 0 001 @ 00000002 n 0000 | young domestic cat",
        "00000002 05 n 01 Felidae 0 000 | a family of cats",
        "00000003 07 n 01 crimson 0 000 | a deep and vivid red color",
        "00000004 07 n 01 honesty 0 000 | the quality of being honest",
    ],
    "verb": ["00000005 30 v 01 purr 0 000 | make a soft sound"],
    "adj": ["00000006 00 a 01 soft(p) 0 000 | not hard"],
    "adv": ["00000007 02 r 01 softly 0 000 | in a soft way"],
}


@pytest.fixture
def script(tmp_path):
    for part, lines in SYNSETS.items():
        (tmp_path / f"data.{part}").write_text("\n".join(lines) + "\n", encoding="utf-8")
    spec = importlib.util.spec_from_file_location("prune_text_encoder", ROOT / "utils" / "prune_text_encoder.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_things_and_colours_are_named_by_wordnet(script, tmp_path):
    assert script.thing_names(str(tmp_path)) == ["crimson", "kitten", "kitty"]


def test_texts_are_words_and_definitions_of_all_parts_of_speech(script, tmp_path):
    texts = list(script.corpus([], str(tmp_path)))
    assert texts[:2] == ["kitten, kitty", "young domestic cat"]
    assert texts[-4:] == ["soft", "not hard", "softly", "in a soft way"]
    assert not any("licence" in text for text in texts)


def test_names_of_things_rank_before_what_stands_more_often(script, tmp_path, tokenizer):
    ranked = tokenizer.convert_ids_to_tokens(script.rank(tokenizer, [], str(tmp_path)))
    assert set(ranked[:3]) == {"crimson", "kitten", "kitty"}
    assert ranked.index("a") < ranked.index("young")  # three times in the definitions, and once
