# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""The evaluation, in process, with the tiny pipeline and a tiny network of features."""

import json
import logging

import datasets
import PIL.Image
import PIL.ImageColor
import pytest
import torch

from itit_hf.commands import evaluate as evaluation
from itit_hf.emoji_scenes.classifier import SceneClassifier

from ..metrics.test_datasets import write_coco
from ..testing_utils import tiny_dual_encoder, tiny_pairs, tiny_pipeline


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A pipeline, a network of features, a dataset."""
    folder = tmp_path_factory.mktemp("evaluation")
    tiny_pipeline().save_pretrained(folder / "pipeline")
    torch.manual_seed(0)
    SceneClassifier(block_out_channels=(4, 4, 4)).save_pretrained(folder / "classifier")
    (folder / "pairs").mkdir()
    tiny_pairs(7).to_parquet(folder / "pairs" / "train.parquet")
    return folder


def evaluate(folders, output, *more, dataset="pairs", num_steps=2):
    arguments = ["--model", str(folders / "pipeline"), "--classifier", str(folders / "classifier")]
    arguments += ["--dataset", str(folders / dataset), "--output", str(output / "figures.json")]
    arguments += ["--num_inference_steps", str(num_steps), "--num_beams", "1", "--max_new_tokens", "4"]
    return evaluation.main([*arguments, *more])


@pytest.fixture(scope="module", autouse=True)
def without_java():
    """Java takes seconds; tests/metrics/test_captions.py has it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluation, "missing_for_coco", lambda: "no `java` in these tests")
        yield


@pytest.fixture(scope="module")
def report(folders, tmp_path_factory):
    return evaluate(folders, tmp_path_factory.mktemp("one"), "--batch_size", "7", "--rounds", "2", "--num_cycles", "3")


def test_both_directions_are_measured_and_each_figure_says_how(report):
    names = {"cider_d", "bleu_4", "rouge_l", "distinct_captions", "fid", "precision", "recall", "density", "coverage"}
    names |= {"code_usage_generated", "code_usage_true", "cycle_word_f1_round_2", "cycle_same_image_tokens_round_2"}
    assert names <= set(report["figures"])
    for name, figure in report["figures"].items():
        assert figure["samples"] == (3 if name.startswith("cycle") else 7), name
        assert figure["protocol"] and len(figure["sample_hash"]) == 16, name
    assert "pooled features of classifier, weights " in report["figures"]["fid"]["protocol"]
    assert report["seed"] == 0 and report["versions"]["torch"] and len(report["model_weights"]) == 16


def test_what_is_not_measured_is_named(report):
    assert report["left_out"] == {"scores of pycocoevalcap": "no `java` in these tests"}


def test_no_figure_depends_on_the_size_of_a_batch(report, folders, tmp_path):
    other = evaluate(folders, tmp_path, "--batch_size", "3", "--rounds", "2", "--num_cycles", "3")
    assert other["figures"].keys() == report["figures"].keys()
    for name, figure in report["figures"].items():
        assert other["figures"][name]["value"] == pytest.approx(figure["value"], rel=1e-4, abs=1e-5), name
        assert other["figures"][name]["sample_hash"] == figure["sample_hash"], name


def test_another_seed_draws_other_images_of_the_same_sample(report, folders, tmp_path):
    other = evaluate(folders, tmp_path, "--directions", "images", "--seed", "100")["figures"]
    assert other["fid"]["value"] != report["figures"]["fid"]["value"]
    assert other["fid"]["sample_hash"] == report["figures"]["fid"]["sample_hash"]


def test_the_file_holds_what_is_returned_and_a_row_for_the_card_stands_beside(folders, tmp_path):
    returned = evaluate(folders, tmp_path, "--directions", "captions", "--num_samples", "2")
    assert json.loads((tmp_path / "figures.json").read_text()) == returned
    head, rule, row = (tmp_path / "figures.md").read_text().splitlines()
    assert head == "| model | dataset | split | preset | seed | samples | cider_d | bleu_4 | rouge_l |"
    assert row.startswith("| pipeline | pairs | None | emoji-scenes | 0 | 2 | ") and rule.count("---") == 9


def test_coco_is_read_through_a_preset_that_says_when_it_is_cut_short(folders, tmp_path, monkeypatch):
    write_coco(tmp_path)

    def means(weights, device):
        def features(images):
            return torch.tensor([image.resize((1, 1)).getpixel((0, 0)) for image in images]).float()

        return evaluation.FeatureNetwork(features, "the mean colour")

    monkeypatch.setattr(evaluation, "inception_features", means)
    coco = tmp_path / "dataset_coco.json"
    figures = evaluate(folders, tmp_path, "--preset", "umt", "--num_cycles", "0", dataset=coco)
    assert figures["figures"]["code_usage_generated"]["samples"] == 4 and figures["figures"]["cider_d"]["samples"] == 2
    assert (
        "4 of the 30000 samples of this preset: not comparable"
        in figures["figures"]["code_usage_generated"]["protocol"]
    )
    assert figures["left_out"]["distances of images"] == "they need six images of each side"


def test_without_the_weights_of_inception_the_error_says_what_to_download_and_where_to(folders, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"download https://.*6726825d.pth to .*missing.pth"):
        evaluate(folders, tmp_path, "--preset", "dataset", "--inception_weights", str(tmp_path / "missing.pth"))


def test_any_vision_model_gives_the_features_and_a_dual_encoder_cmmd(folders, tmp_path):
    scorer = tiny_dual_encoder()
    scorer.model.save_pretrained(tmp_path / "clip")
    scorer.processor.save_pretrained(tmp_path / "clip")
    options = ["--directions", "images", "--features", str(tmp_path / "clip")]
    figures = evaluate(folders, tmp_path, *options)["figures"]
    assert "image embeddings of length 1 of VisionTextDualEncoderModel clip" in figures["cmmd"]["protocol"]
    assert figures["cmmd"]["value"] >= 0.0 and figures["fid"]["protocol"] == figures["cmmd"]["protocol"]
    assert "kernel_distance" in figures and "| cmmd |" in (tmp_path / "figures.md").read_text()


def wide_pairs(folder, number=7):
    """Images that are red beside a blue middle; the column of captions has another name."""
    image = PIL.Image.new("RGB", (40, 20), "red")
    image.paste("blue", (10, 0, 30, 20))
    rows = datasets.Dataset.from_list([{"image": image, "caption": f"a bus {i}"} for i in range(number)])
    (folder / "wide").mkdir()
    rows.to_parquet(folder / "wide" / "train.parquet")
    return folder / "wide"


@pytest.mark.parametrize(("rule", "colours"), [("squeeze", {"red", "blue"}), ("crop", {"blue"})])
def test_true_images_are_prepared_by_the_rule_that_is_said(folders, tmp_path, monkeypatch, rule, colours):
    seen = set()

    def network(folder, device):
        def features(images):
            for image in images:
                seen.update(name for name in ("red", "blue") if has(image, name))
            return torch.zeros(len(images), 4)

        return evaluation.FeatureNetwork(features, "none")

    def has(image, name):
        return PIL.ImageColor.getrgb(name) in {colour for _, colour in image.getcolors(10_000)}

    monkeypatch.setattr(evaluation, "classifier_features", network)
    options = ["--directions", "images", "--columns", "text=caption"]
    options += [] if rule == "squeeze" else ["--aspect_ratio", rule]
    report = evaluate(folders, tmp_path, *options, dataset=wide_pairs(tmp_path))
    assert seen == colours and evaluation.RULES[rule] in report["figures"]["code_usage_true"]["protocol"]


def test_images_that_cannot_be_read_are_named_or_left_out(folders, tmp_path):
    rows = tiny_pairs(7).cast_column("image", datasets.Image(decode=False)).to_list()
    rows[2]["image"] = {"bytes": b"<html>", "path": None}
    (tmp_path / "bad").mkdir()
    datasets.Dataset.from_list(rows).to_parquet(tmp_path / "bad" / "train.parquet")
    options = ("--directions", "captions")
    with pytest.raises(ValueError, match="row 2 of the evaluation: it cannot be read as an image"):
        evaluate(folders, tmp_path, *options, dataset=tmp_path / "bad")
    figures = evaluate(folders, tmp_path, *options, "--on_bad_image", "skip", dataset=tmp_path / "bad")["figures"]
    assert figures["cider_d"]["samples"] == 6


def test_what_is_left_out_is_logged_and_a_model_of_the_hub_has_no_hash(caplog):
    report = evaluation.Report({"seed": 0, "model": "nowhere"})
    with caplog.at_level(logging.WARNING):
        report.leave_out("SPICE", "no models")
    assert "without SPICE: no models" in caplog.text and report.to_dict()["model_weights"] == "of the Hub"


def test_a_scorer_adds_clip_score_and_r_precision_with_their_formulas(folders, tmp_path):
    torch.manual_seed(0)
    scorer = tiny_dual_encoder()
    scorer.model.save_pretrained(tmp_path / "scorer")
    scorer.processor.save_pretrained(tmp_path / "scorer")
    options = ("--num_cycles", "0", "--scorer", str(tmp_path / "scorer"))
    figures = evaluate(folders, tmp_path, *options)["figures"]
    assert {"caption_clip_score", "true_caption_clip_score", "caption_ref_clip_score"} <= figures.keys()
    assert figures["clip_score"]["value"] == pytest.approx(40 * figures["clip_score_w"]["value"])
    assert "mean of 100 * max(cos, 0)" in figures["clip_score"]["protocol"]
    assert "above 2 random others" in figures["r_precision"]["protocol"]  # three different prompts
    assert figures["r_precision_hard"]["samples"] == 7
    assert 0.0 <= figures["r_precision_hard"]["value"] <= 1.0


def test_captions_are_judged_by_the_dual_encoder_beside_the_true_ones():
    class Judge:
        truncated = 0

        def embed_texts(self, texts):
            return torch.tensor([{"a bus": [1.0, 0.0], "a key": [0.6, 0.8]}[text] for text in texts])

    report, options = evaluation.Report({"seed": 0}), evaluation.parse_args(["--scorer", "nowhere"])
    images, references = torch.tensor([[1.0, 0.0], [1.0, 0.0]]), [["a bus", "a key"], ["a bus"]]
    evaluation.judge_captions(Judge(), images, ["a key", "a bus"], references, options, report)
    figures = {name: figure["value"] for name, figure in report.figures.items()}
    assert figures["caption_clip_score"] == pytest.approx(100 * (0.6 + 1.0) / 2)
    assert figures["true_caption_clip_score"] == pytest.approx(100 * (1.0 + 0.6 + 1.0) / 3)
    # 2.5 * 0.6 and 2.5 * 1.0 with the images, 1.0 with the nearest true captions.
    assert figures["caption_ref_clip_score"] == pytest.approx((2 * 1.5 / 2.5 + 2 * 2.5 / 3.5) / 2)
    assert figures["caption_clip_score_w"] == pytest.approx(2.5 * (0.6 + 1.0) / 2)
    assert report.figures["caption_clip_score"]["samples"] == 2


def test_prompts_of_one_text_have_no_r_precision():
    report = evaluation.Report({"seed": 0})
    scorer, options = tiny_dual_encoder(), evaluation.parse_args(["--scorer", "nowhere"])
    evaluation.evaluate_prompts(scorer, scorer.embed_texts(["a bus"] * 2), ["a bus"] * 2, options, report)
    assert set(report.left_out) == {"R-precision"}
    assert report.figures["clip_score"]["value"] == pytest.approx(100.0)
