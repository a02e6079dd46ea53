# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""Evaluate any checkpoint in both directions, on any dataset with `image` and `text`."""

import hashlib
import itertools
import json
import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import PIL.Image
import torch
from tqdm.auto import tqdm

from ..data.captions import BAD_CAPTION_POLICIES
from ..data.loading import parse_columns
from ..data.streams import BAD_IMAGE_POLICIES
from ..emoji_scenes.categories import CATEGORIES
from ..emoji_scenes.classifier import SceneClassifier
from ..emoji_scenes.seen_scenes import INPUT_SIZE, to_pixel_values
from ..metrics.captions import caption_scores
from ..metrics.coco_captions import coco_caption_scores, missing_for_coco, missing_for_spice
from ..metrics.datasets import PRESETS, EvaluationSource, open_evaluation
from ..metrics.features import VisionFeatures
from ..metrics.images import gaussian_distance, image_scores
from ..metrics.inception import InceptionV3
from ..metrics.retrieval import clip_score, hard_texts, r_precision, random_others, ref_clip_score
from ..models.image_loading_itit import ASPECT_RATIOS
from ..pipelines.call_defaults import settle_options, with_given
from ..pipelines.pipeline_itit import ITITPipeline
from ..pretraining.vq_evaluation import CodeCounter, code_entropy, code_usage
from ..rewards.dual_encoder import DualEncoderScorer
from .checkpoints import CLASSIFIER, MODEL, load_pipeline, locate
from .console import command_parser, show_messages

logger = logging.getLogger(__name__)

INCEPTION_URL = "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/"
INCEPTION_FILE = "weights-inception-2015-12-05-6726825d.pth"
LIBRARIES = ("itit_hf", "torch", "transformers", "diffusers", "numpy", "Pillow", "pycocoevalcap")
RULES = {"squeeze": "whole, squeezed", "pad": "whole, padded with white", "crop": "middle square"}
NUM_OTHERS = 99  # wrong prompts of R-precision
CLIP_SCORE_FORMULA = "clip_score is the mean of 100 * max(cos, 0), clip_score_w of 2.5 * max(cos, 0)"
# Words of which one may stand for another in the hard R-precision, where they occur in the prompts.
HARD_WORDS = (
    ("red", "orange", "yellow", "green", "blue", "purple", "pink", "teal", "brown", "black", "white", "gray"),
    ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"),
    tuple(CATEGORIES),
)
# Figures of the row for the card, where they were measured.
COLUMNS = (
    "fid",
    "kernel_distance",
    "cmmd",
    "clip_score",
    "r_precision",
    "r_precision_hard",
    "precision",
    "recall",
    "density",
    "coverage",
    "cider_d",
    "caption_clip_score",
    "caption_ref_clip_score",
    "coco_cider",
    "bleu_4",
    "rouge_l",
)


@dataclass
class FeatureNetwork:
    """Images of one size -> features of shape `(batch_size, num_features)`, what the network is, in words, and whether
    features are of length 1, as CMMD takes them."""

    features: Callable[[list[PIL.Image.Image]], torch.Tensor]
    description: str
    is_dual_encoder: bool = False


def classifier_features(folder: str, device: str) -> FeatureNetwork:
    """Features that the classifier of the emoji scenes reads its answers from, averaged over the image."""
    classifier = SceneClassifier.from_pretrained(folder).to(device).eval()
    width = classifier.head.in_channels
    size = (INPUT_SIZE, INPUT_SIZE)

    @torch.no_grad()
    def features(images: list[PIL.Image.Image]) -> torch.Tensor:
        images = [p if p.size == size else p.resize(size, PIL.Image.Resampling.BOX) for p in images]
        pixel_values = to_pixel_values(np.stack([np.asarray(image) for image in images]))
        return classifier.body(pixel_values.to(device)).mean(dim=(2, 3)).cpu()  # (B, C)

    return FeatureNetwork(features, f"{width} pooled features of {Path(folder).name}, weights {weights_hash(folder)}")


def inception_features(weights: str | None, device: str) -> FeatureNetwork:
    """Pool-3 features of Inception v3 as in the first paper on FID."""
    file = Path(weights or Path(torch.hub.get_dir()) / "checkpoints" / INCEPTION_FILE)
    if not file.is_file():
        raise FileNotFoundError(
            f"FID needs the weights of Inception v3: download {INCEPTION_URL}{INCEPTION_FILE} to {file}, or name the "
            "file with --inception_weights. Without them: `--directions captions`, or `--preset emoji-scenes`"
        )
    network = InceptionV3.from_file(file).to(device)

    @torch.no_grad()
    def features(images: list[PIL.Image.Image]) -> torch.Tensor:
        pixels = torch.from_numpy(np.stack([np.asarray(image) for image in images]))
        return network(pixels.permute(0, 3, 1, 2).to(device)).cpu()  # (B, 2048)

    return FeatureNetwork(features, f"2048 features of Inception v3, weights {_sha256(file)}")


def vision_features(name: str, device: str) -> FeatureNetwork:
    """Features of any vision model or dual encoder of transformers."""
    network = VisionFeatures.from_pretrained(name)
    network.model.to(device)
    description = f"{network.description} {Path(name).name}, weights {weights_hash(name)}"
    return FeatureNetwork(network, description, network.is_dual_encoder)


def _sha256(file: Path) -> str:
    digest = hashlib.sha256()
    with open(file, "rb") as data:
        for block in iter(lambda: data.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()[:16]


def weights_hash(folder: str) -> str:
    """Of all weights under a local folder, file by file; a Hub id has none."""
    files = sorted(Path(folder).rglob("*.safetensors"))
    if not files:
        return "of the Hub"
    hashes = [_sha256(file) for file in files]
    return hashes[0] if len(hashes) == 1 else text_hash(hashes)


def batches(rows: Iterable, size: int) -> Iterator[list]:
    """Lists of `size`, the last one shorter."""
    rows = iter(rows)
    while batch := list(itertools.islice(rows, size)):
        yield batch


def generators(options, start: int, number: int) -> list[torch.Generator]:
    """One per sample, of the seed plus its number."""
    return [torch.Generator().manual_seed(options.seed + i) for i in range(start, start + number)]


def text_hash(texts) -> str:
    """Of texts, or lists of them, in their order."""
    return hashlib.sha256(json.dumps(texts, ensure_ascii=False).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Sample:
    """What figures are measured on: how many, and a digest of which."""

    size: int
    digest: str


class Report:
    """Figures, each with its protocol and the sample it is of, and what was left out and why.

    Args:
        settings (`dict`): Of the run.
    """

    def __init__(self, settings: dict):
        self.settings = settings
        self.figures: dict[str, dict] = {}
        self.left_out: dict[str, str] = {}

    def add(self, figures: dict[str, float], protocol: str, sample: Sample):
        """Take up figures of one protocol and sample."""
        for name, value in figures.items():
            self.figures[name] = {
                "value": float(value),
                "protocol": protocol,
                "samples": sample.size,
                "sample_hash": sample.digest,
            }

    def leave_out(self, name: str, reason: str):
        """Note what is not measured, and why."""
        self.left_out[name] = reason
        logger.warning(f"without {name}: {reason}")

    def to_dict(self) -> dict:
        """All of it, with versions."""
        versions = {}
        for name in LIBRARIES:
            try:
                versions[name] = version(name)
            except PackageNotFoundError:
                versions[name] = None
        return {
            "settings": self.settings,
            "seed": self.settings["seed"],
            "model_weights": weights_hash(self.settings["model"]),
            "versions": versions,
            "figures": self.figures,
            "left_out": self.left_out,
        }

    def markdown(self) -> str:
        """A table of one row for the card."""
        names = [name for name in COLUMNS if name in self.figures]
        about = {name: self.settings[name] for name in ("model", "dataset", "split", "preset", "seed")}
        samples = sorted({self.figures[name]["samples"] for name in names})
        about = {name: Path(str(value)).name for name, value in about.items()}
        about["samples"] = ", ".join(map(str, samples))
        cells = [*about.values(), *(f"{self.figures[name]['value']:.3f}" for name in names)]
        lines = [[*about, *names], ["---"] * len(cells), cells]
        return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def read_images(pipe: ITITPipeline, batch: list[dict], start: int) -> list[PIL.Image.Image]:
    """The images of some rows, of which the first has the number `start`, as the model is shown them."""
    read = pipe.image_processor.read_image
    return [read(row["image"], f"row {i} of the evaluation") for i, row in enumerate(batch, start)]


def evaluate_captions(pipe: ITITPipeline, rows: Iterable[dict], scorer, options, report: Report):
    """Caption every image, and score the captions."""
    captions: list[str] = []
    references: list[list[str]] = []
    embeds = []
    for batch in tqdm(batches(rows, options.batch_size), desc="captions"):
        images = read_images(pipe, batch, len(captions))
        captions += pipe.caption(images, num_beams=options.num_beams, max_new_tokens=options.max_new_tokens)
        references += [row["text"] for row in batch]
        if scorer is not None:  # which prepares images by a rule of its own
            embeds.append(scorer.embed_images([row["image"] for row in batch]))
    sample = Sample(len(captions), text_hash(references))
    decoding = f"beam search of {options.num_beams}; all captions of an image as references; scores times 100"
    scope = f"{decoding}; document frequency over all references; words by tokenize_caption, not PTB"
    report.add(caption_scores(captions, references), scope, sample)
    if scorer is not None:
        judge_captions(scorer, torch.cat(embeds), captions, references, options, report)
    reason = missing_for_coco()
    if reason:
        report.leave_out("scores of pycocoevalcap", reason)
        return
    report.add(coco_caption_scores(captions, references), f"{decoding}; pycocoevalcap, PTB tokens", sample)
    if missing_for_spice():
        report.leave_out("SPICE", missing_for_spice())


def judge_of(scorer: DualEncoderScorer, options) -> str:
    """Which dual encoder judges, and how many texts it has cut so far."""
    return f"{Path(options.scorer).name}, weights {weights_hash(options.scorer)}; {scorer.truncated} texts cut"


def judge_captions(
    scorer: DualEncoderScorer, image_embeds: torch.Tensor, captions, references, options, report: Report
):
    """How well captions go with their images, embeds of shape `(num_images, embed_dim)`, and how well true ones do."""
    true_captions = [text for texts in references for text in texts]
    images_of_true = [i for i, texts in enumerate(references) for _ in texts]
    caption_embeds = scorer.embed_texts(captions)
    true_embeds = scorer.embed_texts(true_captions).split([len(texts) for texts in references])
    of_references = [(own @ true.T) for own, true in zip(caption_embeds, true_embeds, strict=True)]
    figure = ref_clip_score(
        (image_embeds * caption_embeds).sum(dim=-1).cpu(), [values.cpu() for values in of_references]
    )
    protocol = "harmonic mean of 2.5 * max(cos, 0) with the image and of the largest max(cos, 0) with a true caption"
    sample = Sample(len(captions), text_hash(references))
    report.add(
        {"caption_ref_clip_score": figure}, f"{protocol}; no words in front; {judge_of(scorer, options)}", sample
    )
    judged = (
        ("caption", "of captions", caption_embeds, list(range(len(captions)))),
        ("true_caption", "of all true captions", torch.cat(true_embeds), images_of_true),
    )
    for name, scope, embeds, images in judged:
        cosines = (image_embeds[images] * embeds).sum(dim=-1)  # (N,)
        figures = {f"{name}_{figure}": value for figure, value in clip_score(cosines).items()}
        protocol = f"{scope}; {CLIP_SCORE_FORMULA}; {judge_of(scorer, options)}"
        report.add(figures, protocol, sample)


@dataclass
class ImageFigures:
    """What is measured of a set of images.

    Args:
        features (`torch.Tensor` of shape `(num_images, num_features)`): Of the [`FeatureNetwork`].
        code_counts (`torch.Tensor` of shape `(codebook_size,)`): How often each code occurs.
        size (`tuple[int, int]`): Width and height of an image, in pixels.
        embeds (`torch.Tensor` of shape `(num_images, embed_dim)`, *optional*): Of the dual encoder, if there is one.
        pixels_hash (`str`): Digest of the pixels of true images.
    """

    features: torch.Tensor
    code_counts: torch.Tensor
    size: tuple[int, int]
    embeds: torch.Tensor | None = None
    pixels_hash: str = ""


def generated_figures(
    pipe: ITITPipeline, prompts: list[str], network: FeatureNetwork, scorer, options
) -> ImageFigures:
    """Generate an image of every prompt, and measure them."""
    counter = CodeCounter(pipe.model.config.codebook_size)
    features = []
    embeds = []
    for n, batch in enumerate(tqdm(list(batches(prompts, options.batch_size)), desc="generated images")):
        ids = pipe(
            batch,
            num_inference_steps=options.num_inference_steps,
            guidance_scale=options.guidance_scale,
            temperature=options.temperature,
            generator=generators(options, n * options.batch_size, len(batch)),
            output_type="latent",
        ).images
        counter.add(ids)
        with torch.no_grad():
            images = pipe.postprocess(ids, "pil")
        features.append(network.features(images))
        if scorer is not None:
            embeds.append(scorer.embed_images(images))
    size = images[0].size
    return ImageFigures(torch.cat(features), counter.counts, size, torch.cat(embeds) if embeds else None)


def true_figures(
    pipe: ITITPipeline, rows: Iterable[dict], network: FeatureNetwork, size: tuple[int, int], options
) -> ImageFigures:
    """Measure true images, scaled to the size of the generated ones."""
    counter = CodeCounter(pipe.model.config.codebook_size)
    digest = hashlib.sha256()
    features = []
    start = 0
    for batch in tqdm(batches(rows, options.batch_size), desc="true images"):
        images = [image.resize(size) for image in read_images(pipe, batch, start)]
        start += len(batch)
        for image in images:
            digest.update(image.tobytes())
        counter.add(pipe.processor(images=images, return_tensors="pt")["image_token_ids"])
        features.append(network.features(images))
    return ImageFigures(torch.cat(features), counter.counts, size, pixels_hash=digest.hexdigest()[:16])


def evaluate_prompts(scorer: DualEncoderScorer, image_embeds: torch.Tensor, prompts, options, report: Report):
    """How well images, embeds of shape `(num_prompts, embed_dim)`, go with their prompts, or with others."""
    text_embeds = scorer.embed_texts(prompts)
    cosines = (image_embeds * text_embeds).sum(dim=-1)  # (B,)
    judge = judge_of(scorer, options)
    sample = Sample(len(prompts), text_hash(prompts))
    report.add(clip_score(cosines), f"{CLIP_SCORE_FORMULA}; {judge}", sample)
    if len(set(prompts)) < 2:
        report.leave_out("R-precision", "all prompts are the same")
        return
    others = random_others(prompts, NUM_OTHERS, options.seed).to(image_embeds.device)  # (B, N)
    scores = (text_embeds[others] @ image_embeds[..., None])[..., 0]  # (B, N)
    protocol = f"own prompt above {others.size(1)} random others, of another wording; a tie is a miss"
    report.add({"r_precision": r_precision(cosines, scores)}, f"{protocol}; {judge}", sample)
    used = {word for prompt in prompts for word in prompt.lower().split()}
    groups = [[word for word in group if word in used] for group in HARD_WORDS]
    changed = [hard_texts(prompt, groups) for prompt in prompts]
    with_any = [i for i, texts in enumerate(changed) if texts]
    if not with_any:
        report.leave_out("hard R-precision", "no prompt has a word that can be changed for another of its group")
        return
    wrong = scorer.embed_texts([text for texts in changed for text in texts]).split([len(texts) for texts in changed])
    scores = torch.stack([(wrong[i] @ image_embeds[i]).max() for i in with_any])[:, None]  # (B, 1)
    protocol = "own prompt above all copies with one colour, number or thing changed; a tie is a miss"
    hard = {"r_precision_hard": r_precision(cosines[with_any], scores)}
    report.add(hard, f"{protocol}; {judge}", Sample(len(with_any), sample.digest))


def evaluate_images(pipe: ITITPipeline, data, network: FeatureNetwork, scorer, options, report: Report):
    """Generate an image of every prompt, and hold the images against the true ones."""
    generated = generated_figures(pipe, data.prompts, network, scorer, options)
    if scorer is not None:
        evaluate_prompts(scorer, generated.embeds, data.prompts, options, report)
    true = true_figures(pipe, data.references, network, generated.size, options)
    num_generated = len(generated.features)
    num_true = len(true.features)
    sample = Sample(num_generated, text_hash([data.prompts, true.pixels_hash]))
    preset = PRESETS[options.preset]
    width, height = generated.size
    pixels = str(width) if width == height else f"{width} x {height}"
    protocol = (
        f"{preset.protocol}; {num_true} true images, {RULES[pipe.image_processor.aspect_ratio]}, bicubic to "
        f"{pixels} pixels; {network.description}; {options.num_inference_steps} steps, guidance scale "
        f"{options.guidance_scale}"
    )
    if preset.num_samples and num_generated != preset.num_samples:
        protocol += f"; {num_generated} of the {preset.num_samples} samples of this preset: not comparable with it"
    if min(num_generated, num_true) < 6:
        report.leave_out("distances of images", "they need six images of each side")
    else:
        scores = image_scores(generated.features, true.features)
        if network.is_dual_encoder:
            scores["cmmd"] = gaussian_distance(generated.features, true.features)
        scope = "neighbours: 3 (precision), 5 (density); kernel_distance: cubic, unbiased, 100 subsets of 1000 at most"
        report.add(scores, f"{protocol}; {scope}", sample)
    for name, measured in (("generated", generated), ("true", true)):
        counts = measured.code_counts
        figures = {f"code_usage_{name}": code_usage(counts), f"code_entropy_{name}": code_entropy(counts)}
        report.add(figures, f"share of codes used; entropy of their frequencies in nats; {protocol}", sample)


def evaluate_cycle(pipe: ITITPipeline, prompts: list[str], options, report: Report):
    """Generate and caption by turns, and measure what stays of the first text and the first image."""
    names = ("num_inference_steps", "guidance_scale", "temperature")
    sampling = with_given(pipe.sampling, {name: getattr(options, name) for name in names})
    drifts: dict[str, list[torch.Tensor]] = {"word_f1": [], "same_words": [], "same_image_tokens": []}
    for n, batch in enumerate(tqdm(list(batches(prompts, options.batch_size)), desc="cycles")):
        drift = pipe.cycle(
            batch,
            rounds=options.rounds,
            sampling=sampling,
            num_beams=options.num_beams,
            max_new_tokens=options.max_new_tokens,
            generator=generators(options, n * options.batch_size, len(batch)),
            output_type="latent",
        ).drift()
        for name, values in drifts.items():
            values.append(getattr(drift, name).double())
    figures = {}
    for name, values in drifts.items():
        means = torch.cat(values).mean(dim=0).tolist()[1:]  # the first is the start itself
        first_round = 2 if name == "same_image_tokens" else 1
        figures |= {f"cycle_{name}_round_{i}": mean for i, mean in enumerate(means, first_round)}
    protocol = "text -> image -> text ..., held against the first text, and the first image generated; means"
    report.add(figures, protocol, Sample(len(prompts), text_hash(prompts)))


def parse_args(arguments: list[str] | None = None):
    """Command line."""
    parser = command_parser("evaluate")
    parser.add_argument("--model", default=MODEL, help="Pipeline folder or Hub id.")
    parser.add_argument(
        "--dataset",
        default="data/emoji-scenes-64",
        help="Folder, pattern of files or Hub id with `image` and `text`; or COCO's dataset_coco.json.",
    )
    parser.add_argument("--split", help="Split of the dataset; of COCO, the one captioned (test).")
    parser.add_argument("--images", help="Folder of train2014 and val2014; that of dataset_coco.json by default.")
    parser.add_argument("--preset", choices=PRESETS, default="emoji-scenes", help="Protocol of the images.")
    parser.add_argument("--directions", choices=("both", "captions", "images"), default="both", help="What to do.")
    parser.add_argument("--num_samples", type=int, help="Fewer samples than the preset or dataset has.")
    parser.add_argument("--num_cycles", type=int, default=100, help="Prompts that go round; 0 is none.")
    parser.add_argument("--rounds", type=int, default=4, help="Rounds of image and caption.")
    parser.add_argument("--num_inference_steps", type=int, help="Decoding steps; the checkpoint's by default.")
    parser.add_argument("--guidance_scale", type=float, help="1 + tau; 1 is none; the checkpoint's by default.")
    parser.add_argument("--temperature", type=float, help="Randomness of the order; the checkpoint's by default.")
    parser.add_argument("--num_beams", type=int, help="Beams of captions; 1 is greedy; the checkpoint's by default.")
    parser.add_argument("--max_new_tokens", type=int, help="Tokens of a caption; the checkpoint's by default.")
    parser.add_argument("--seed", type=int, default=0, help="Image i is generated from this seed plus i.")
    parser.add_argument("--batch_size", type=int, default=32, help="Samples at a time.")
    parser.add_argument("--classifier", default=CLASSIFIER, help="Folder or Hub id.")
    parser.add_argument("--scorer", help="Dual encoder of CLIPScore and R-precision: folder or Hub id.")
    parser.add_argument(
        "--features",
        help="Vision model or dual encoder of transformers in place of the preset's network: folder or Hub id. Of "
        "DINOv2 the Frechet distance is FD-DINOv2; a dual encoder such as CLIP gives CMMD too.",
    )
    parser.add_argument("--inception_weights", help=f"File of {INCEPTION_FILE}; torch's cache by default.")
    parser.add_argument("--output", default="out/evaluation.json", help="JSON; the row for the card stands beside.")
    parser.add_argument(
        "--columns", nargs="+", default=[], help="What its columns are called, such as image=photo text=alt."
    )
    parser.add_argument(
        "--bad_captions", choices=BAD_CAPTION_POLICIES, default="raise", help="Captions that are none: raise or skip."
    )
    parser.add_argument(
        "--on_bad_image",
        choices=BAD_IMAGE_POLICIES,
        default="raise",
        help="Images that cannot be read: raise or skip.",
    )
    parser.add_argument(
        "--aspect_ratio",
        choices=ASPECT_RATIOS,
        help="What becomes of true images that are not square; what the checkpoint was trained with by default. "
        "Published figures of COCO are mostly of the middle (crop).",
    )
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> dict:
    """Evaluate, log, and write JSON and Markdown."""
    options = parse_args(arguments)
    show_messages()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    network = None
    if options.directions != "captions":
        if options.features is not None:
            network = vision_features(options.features, device)
        elif PRESETS[options.preset].features == "classifier":
            network = classifier_features(locate(options.classifier, "--classifier"), device)
        else:
            network = inception_features(options.inception_weights, device)
    preset = PRESETS[options.preset]
    columns = parse_columns(options.columns, "--columns")
    policies = {"bad_captions": options.bad_captions, "on_bad_image": options.on_bad_image}
    source = EvaluationSource(options.dataset, options.split, options.images, columns, **policies)
    data = open_evaluation(preset, source, options.num_samples, options.seed)
    pipe = load_pipeline(options.model)
    if options.aspect_ratio is not None:
        size = pipe.image_processor.crop_size
        image_processor = pipe.image_processor.with_size(size["height"], size["width"], options.aspect_ratio)
        pipe.register_modules(image_processor=image_processor)
    pipe.set_progress_bar_config(disable=True)
    settle_options(options, pipe)
    report = Report(vars(options))
    scorer = DualEncoderScorer.from_pretrained(options.scorer, options.batch_size) if options.scorer else None
    if scorer is not None:
        scorer.model.to(device)
    if options.directions != "images":
        evaluate_captions(pipe, data.to_caption, scorer, options, report)
    if network is not None:
        evaluate_images(pipe, data, network, scorer, options, report)
    if options.directions == "both" and options.num_cycles:
        evaluate_cycle(pipe, data.prompts[: options.num_cycles], options, report)
    path = Path(options.output)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report.to_dict(), indent=2) + "\n", encoding="utf-8")
    path.with_suffix(".md").write_text(report.markdown(), encoding="utf-8")
    for name, figure in report.figures.items():
        logger.info(f"{name:32} {figure['value']:.4f}  ({figure['samples']} samples)")
    logger.info(f"written: {path} and {path.with_suffix('.md')}")
    return report.to_dict()


if __name__ == "__main__":
    main()
