# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""One world in several languages: German that agrees, English as it was, and judging that knows which is spoken."""

import hashlib
import json
from argparse import Namespace
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import build_emoji_scenes
import evaluate_dual_encoder
import evaluate_emoji_scenes
import study_pair_weights
from itit_hf import ITITTrainingArguments, SamplingSettings
from itit_hf.commands.train import ScriptArguments
from itit_hf.data.loading import load_rows
from itit_hf.emoji_scenes.build import (
    CONFIG_NAME,
    SplitSizes,
    build_dataset,
    ensure_emoji_scenes,
    load_config,
    split_rows,
)
from itit_hf.emoji_scenes.card import dataset_card
from itit_hf.emoji_scenes.categories import CATEGORIES, COLOURS
from itit_hf.emoji_scenes.evaluation import caption_accuracy, prompt_accuracy
from itit_hf.emoji_scenes.grammar import (
    ParsedCaption,
    ParsedObject,
    captions,
    check_category_names,
    is_true_of,
    parse,
    plain_caption,
)
from itit_hf.emoji_scenes.languages import LANGUAGES
from itit_hf.emoji_scenes.scenes import BACKGROUNDS, KeyedDraws, Scene, SceneConfig, SceneObject, first_categories
from itit_hf.emoji_scenes.seen_scenes import SeenObject, SeenScene
from itit_hf.pipelines.call_defaults import CaptionSettings
from itit_hf.pretraining.text_pretraining import train_unigram_tokenizer
from itit_hf.training.training_args import parse_arguments

from ..testing_utils import draw_cut_outs, script

ROOT = Path(__file__).parents[2]
RECIPES = ROOT / "examples" / "recipes" / "emoji_scenes_german"
SHAPES = ("bus", "tree", "cat", "car", "elephant", "key")
SIZES = SplitSizes(paired=12, image=6, text=6, validation=3, heldout=3)


def scene(*objects, relation=None, background="snow"):
    return Scene(64, background, tuple(objects), relation, seed=0, index=0)


RED_CAT = SceneObject("cat", "red", "noto", (0, 12, 40, 40))  # small, on the left
BLUE_ELEPHANT = SceneObject("elephant", "blue", "noto", (0, 10, 24, 24))
RED_HEART = SceneObject("heart", "red", "noto", (34, 8, 30, 20))


def sampled_scenes(count: int):
    """Scenes of one or two of all things, whose boxes no drawing restricts."""
    for n in range(count):
        draws = KeyedDraws(5, n)
        categories, objects = list(CATEGORIES)[:58], []  # the table grows at its end
        for _ in range(draws.integer(1, 2)):
            category = draws.choice(categories)
            categories.remove(category)
            box = tuple(draws.integer(0, 24) for _ in range(2)) + tuple(draws.integer(24, 54) for _ in range(2))
            objects.append(SceneObject(category, draws.choice(tuple(COLOURS)), "noto", box))
        relation = draws.choice(("left of", "above")) if len(objects) == 2 else None
        yield Scene(64, draws.choice(tuple(BACKGROUNDS)), tuple(objects), relation, 5, n)


@pytest.fixture(scope="module")
def cut_outs(tmp_path_factory):
    """Six grey shapes of different height, and a seventh that no table knows."""
    return draw_cut_outs(tmp_path_factory.mktemp("art"), (*SHAPES, "toy box"))


@pytest.fixture(scope="module")
def english(cut_outs):
    return SceneConfig(styles=(cut_outs,), categories=first_categories([cut_outs], 6))


@pytest.fixture(scope="module")
def german_folder(tmp_path_factory, cut_outs):
    """Built by the command line."""
    folder = tmp_path_factory.mktemp("built") / "scenes"
    rows = [f"--{name}={count}" for name, count in vars(SIZES).items() if count]
    build_emoji_scenes.main(
        ["--output", str(folder), "--styles", cut_outs, "--num_categories", "6", "--language", "de", *rows]
    )
    return folder


# What is written


def test_english_captions_never_change():
    written = "\n".join(text for sampled in sampled_scenes(3000) for text in captions(sampled))
    assert hashlib.sha256(written.encode()).hexdigest()[:16] == "cc1e31ead6d59a4e"


def test_german_captions_of_one_thing():
    assert captions(scene(RED_CAT), "de") == [
        "eine rote katze",
        "da ist eine rote katze",
        "ein bild von einer roten katze im schnee",
        "links ist eine kleine rote katze",
        "eine kleine rote katze",
    ]


def test_german_captions_of_two_things():
    assert captions(scene(BLUE_ELEPHANT, RED_HEART, relation="left of"), "de") == [
        "ein blauer elefant links von einem roten herzen",
        "ein rotes herz und ein blauer elefant",
        "ein blauer elefant und ein rotes herz im schnee",
        "ein kleiner blauer elefant links von einem roten herzen",
        "ein blauer elefant und ein rotes herz",
    ]


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_caption_reads_back_to_facts_true_of_its_scene(language):
    written = Counter()
    for sampled in sampled_scenes(3000):
        texts = captions(sampled, language)
        assert len(set(texts)) == 5
        for text in texts:
            parsed = parse(text, language=language)
            assert parsed is not None and is_true_of(parsed, sampled), (text, sampled)
            written["size"] += any(item.size for item in parsed.objects)
            written.update(field for field in ("relation", "position", "background") if getattr(parsed, field))
    assert all(written[fact] > 1000 for fact in ("size", "relation", "position", "background"))  # of 15,000


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_category_and_colour_has_a_word_of_its_own(language):
    words = [LANGUAGES[language].words(category, "red", None)["category"] for category in CATEGORIES]
    words += [LANGUAGES[language].words("bus", colour, None)["colour"] for colour in COLOURS]
    assert len(set(words)) == len(CATEGORIES) + len(COLOURS)


# How German agrees


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ein roter bus", ParsedCaption((ParsedObject("bus", "red"),))),
        ("eine rote katze", ParsedCaption((ParsedObject("cat", "red"),))),
        ("ein rotes auto", ParsedCaption((ParsedObject("car", "red"),))),
        ("ein bild von einer grünen schildkröte", ParsedCaption((ParsedObject("turtle", "green"),))),
        ("ein bild von einem blauen elefanten", ParsedCaption((ParsedObject("elephant", "blue"),))),
        ("das t-shirt ist türkis", ParsedCaption((ParsedObject("shirt", "teal"),))),
        ("ein schlüssel, der lila ist", ParsedCaption((ParsedObject("key", "purple"),))),
        ("der orange fisch ist groß", ParsedCaption((ParsedObject("fish", "orange", "big"),))),
        (
            "in der mitte ist eine kleine gelbe krone bei nacht",
            ParsedCaption((ParsedObject("crown", "yellow", "small"),), None, "middle", "night"),
        ),
        (
            "das blaue auto ist links vom roten bus",
            ParsedCaption((ParsedObject("car", "blue"), ParsedObject("bus", "red")), "left of"),
        ),
        (
            "ein rosa pilz unter einer großen grünen glocke",
            ParsedCaption((ParsedObject("mushroom", "pink"), ParsedObject("bell", "green", "big")), "below"),
        ),
    ],
)
def test_german_reads(text, expected):
    assert parse(text, language="de") == expected


@pytest.mark.parametrize(
    "text",
    [
        "ein rote bus",
        "eine roter katze",
        "ein roter auto",
        "ein kleine roter bus",
        "ein lilaes auto",
        "die bus ist rot",
        "ein bild von ein roter bus",
        "ein bild von einem roten katze",
        "ein bild von einem blauen elefant",
        "ein bus, die rot ist",
        "ein blaues auto links von ein roter bus",
        "das blaue auto ist links von dem roten bus",  # wherever "vom" can stand, it does
        "Ein roter Bus",
        "ein gruner baum",
        "a red bus",
    ],
)
def test_german_refuses_what_does_not_agree(text):
    assert parse(text, language="de") is None


def test_umlauts_survive_the_tokenizer_and_capitals_are_read_as_small_letters():
    written = [text for sampled in sampled_scenes(400) for text in captions(sampled, "de")]
    tokenizer = train_unigram_tokenizer(written, vocab_size=480)
    assert tokenizer.decode(tokenizer("Eine große grüne Schildkröte").input_ids, skip_special_tokens=True) == (
        "eine große grüne schildkröte"
    )
    for text, ids in zip(written, tokenizer(written).input_ids, strict=True):
        assert tokenizer.decode(ids, skip_special_tokens=True) == text


def test_the_plain_caption_of_a_thing_agrees():
    assert plain_caption("cat", "orange") == "an orange cat" and plain_caption("bus", "red") == "a red bus"
    assert plain_caption("cat", "red", "de") == "eine rote katze"
    assert plain_caption("bus", "red", "de") == "ein roter bus"


# What is refused


def test_an_unknown_language_is_named(english):
    with pytest.raises(ValueError, match="`language` must be one of en, de, got 'tlh'"):
        parse("bIQ", language="tlh")
    with pytest.raises(ValueError, match="`language` must be one of"):
        replace(english, language="tlh")


def test_a_category_without_a_german_noun_is_refused_before_anything_is_drawn(tmp_path, cut_outs, monkeypatch):
    config = SceneConfig(styles=(cut_outs,), categories=first_categories([cut_outs], 7), language="de")
    check_category_names(config.categories)
    monkeypatch.setattr("itit_hf.emoji_scenes.build.render_category", None)
    with pytest.raises(ValueError, match="`categories` with a German noun are bus, .*; got 'toy box'"):
        build_dataset(tmp_path / "scenes", config, SIZES)


# The dataset


def test_scenes_images_and_splits_are_the_same_in_every_language(english):
    in_english, in_german = (list(split_rows(replace(english, language=name), SIZES, 3)) for name in ("en", "de"))
    assert len(in_english) == 30
    for row, other in zip(in_english, in_german, strict=True):
        assert (row.split, row.scene, row.pixel_hash) == (other.split, other.scene, other.pixel_hash)
        assert other.as_dict()["text"] == ([] if row.split == "image" else captions(row.scene, "de"))
        assert row.as_dict()["text"] == ([] if row.split == "image" else captions(row.scene))


def test_a_german_folder_says_so_in_its_config_and_on_its_card(german_folder, english):
    assert load_config(german_folder) == replace(english, language="de")
    card = (german_folder / "README.md").read_text(encoding="utf-8")
    assert "language:\n- de\n" in card and "captions are in German" in card and "Unicode License V3" in card
    assert "language:\n- en\n" in dataset_card("scenes", SceneConfig(), {"paired": 5}, 0)


def test_a_folder_from_before_there_were_languages_is_english(tmp_path, cut_outs, english):
    fields = json.loads(english.to_json())
    assert fields.pop("language") == "en"
    (tmp_path / CONFIG_NAME).write_text(json.dumps(fields), encoding="utf-8")
    assert load_config(tmp_path) == english
    assert ensure_emoji_scenes(tmp_path, [cut_outs], num_categories=6) == str(tmp_path)


def test_a_german_folder_is_another_world_than_the_english_one(german_folder, cut_outs):
    with pytest.raises(ValueError, match="holds another world"):
        ensure_emoji_scenes(german_folder, [cut_outs], num_categories=6)


# Judging


def test_captions_are_judged_in_their_language():
    written = ["eine rote katze", "eine blaue katze", "ein rote katze", "a red cat"]
    accuracy = caption_accuracy(written, [scene(RED_CAT)] * 4, "de")
    assert accuracy == {"grammatical": 0.5, "category": 0.5, "colour": 0.25, "both": 0.25, "true": 0.25}


def test_prompts_are_judged_in_their_language():
    class Reads:
        config = Namespace(categories=tuple(CATEGORIES), colours=tuple(COLOURS))

        def read(self, images):
            return [SeenScene(64, "snow", (SeenObject("cat", "red", (0.0, 12.0, 40.0, 40.0)),))] * len(images)

    accuracy = prompt_accuracy([None] * 2, ["eine rote katze im schnee", "ein roter bus"], Reads(), "de")
    assert accuracy == {"number": 1.0, "category": 0.5, "colour": 1.0, "both": 0.5, "true": 0.5}
    with pytest.raises(ValueError, match="must be sentences of the grammar"):
        prompt_accuracy([None], ["eine rote katze"], Reads())


def test_the_evaluation_reads_the_language_from_the_folder(german_folder, monkeypatch):
    judged = []

    def judge(pipe, judges, rows, options, trained_on, language):
        judged.append((language, rows[0]["text"][0]))
        return {"shares": {"caption_true": 1.0}, "sharpness": 1.0, "scenes": {}}

    monkeypatch.setattr(evaluate_emoji_scenes, "evaluate_split", judge)
    settings = {"sampling": SamplingSettings(), "captioning": CaptionSettings()}
    pipe = Namespace(set_progress_bar_config=lambda disable: None, **settings)
    monkeypatch.setattr(evaluate_emoji_scenes.ITITPipeline, "from_pretrained", lambda name: pipe)
    monkeypatch.setattr(
        evaluate_emoji_scenes, "open_judge", lambda folder: Namespace(config=Namespace(categories=CATEGORIES))
    )
    evaluate_emoji_scenes.main(["--dataset", str(german_folder)])
    assert [language for language, _ in judged] == ["de", "de"]  # validation, heldout
    assert all(parse(text, language="de") for _, text in judged)


def test_the_pairs_of_weights_are_judged_in_the_language_of_their_folder(german_folder, monkeypatch):
    pipe = Namespace(model=Namespace(eval=lambda: None), caption=lambda images, **options: written[: len(images)])
    clean = load_rows(str(german_folder), "validation")
    written = [texts[0] for texts in clean["text"]]
    trainer = Namespace(evaluate=lambda: {"eval_loss_t2i": 2.0})
    monkeypatch.setattr(study_pair_weights, "pair_losses", lambda pipe, rows, batch_size: torch.zeros(len(rows)))
    options = Namespace(dataset=str(german_folder), batch_size=len(clean))
    assert study_pair_weights.figures(pipe, clean, trainer, options)["true"] == 1.0


def test_captions_without_pairs_are_judged_in_the_language_of_their_scenes(german_folder, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    language_of = script("train_captions_without_pairs").language_of
    scenes = load_rows(str(german_folder), "validation")
    assert language_of(Namespace(paired_dataset=str(german_folder)), scenes) == "de"
    assert language_of(Namespace(paired_dataset=None), scenes) == "en"
    assert language_of(Namespace(paired_dataset="user/photos"), scenes.remove_columns("scene")) == "en"


def test_a_dual_encoder_is_given_its_labels_in_the_language_of_the_dataset():
    class Embeds:
        written: list[str] = []

        def embed_texts(self, texts):
            self.written += texts
            return torch.eye(len(texts))

    world, scorer = SceneConfig(categories=("cat", "bus"), colours=("red", "blue"), language="de"), Embeds()
    shares = evaluate_dual_encoder.zero_shot(scorer, torch.eye(4)[:1], [scene(RED_CAT)], world)
    assert scorer.written == ["eine rote katze", "eine blaue katze", "ein roter bus", "ein blauer bus"]
    assert shares == {"category": 1.0, "colour": 1.0, "both": 1.0}


def test_texts_of_another_language_are_true_of_the_same_scenes():
    relevant = evaluate_dual_encoder.truths(["eine rote katze", "ein roter bus"], [scene(RED_CAT)], "de")
    assert relevant.tolist() == [[True, False]]


# The recipe


def test_both_stages_of_the_german_recipe_read_german_scenes_and_their_text_encoder():
    starts, outputs = {}, {}
    for stage in ("pairs", "full"):
        config = str(RECIPES / f"{stage}.yaml")
        args, training = parse_arguments([ScriptArguments, ITITTrainingArguments], ["--config", config, "--use_cpu"])
        assert {args.paired_dataset, args.image_dataset, args.text_dataset} == {"data/emoji-scenes-64-german"}
        splits = (args.paired_split, args.image_split, args.text_split, args.eval_split)
        assert splits == ("paired[:4000]", "image", "text", "validation")
        assert args.text_encoder == "out/emoji-scenes-german/text_encoder"
        assert all(parse(prompt, language="de") for prompt in training.sample_prompts)
        starts[stage], outputs[stage] = args.model_name_or_path, training.output_dir
    assert starts == {"pairs": None, "full": f"{outputs['pairs']}/pipeline/model"}
