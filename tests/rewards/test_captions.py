# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
import copy
import importlib.util
import math
import random
import subprocess
import sys

import pytest
import torch

from itit_hf import CiderD, ClipAgg, ClipCos, DiscriminatorReward
from itit_hf.rewards.captions import (
    add_image_embeds,
    greedy_advantages,
    reward_name,
    rloo_advantages,
    score_completions,
)

from ..testing_utils import tiny_pairs, tiny_tokenizer

END = 1
WORDS = ["a", "the", "red", "blue", "green", "bus", "fish", "tree", "on", "grass", "small", "big"]


def random_captions(count: int, seed: int) -> list[str]:
    draw = random.Random(seed)
    return [" ".join(draw.choices(WORDS, k=draw.randint(1, 12))) for _ in range(count)]


@pytest.fixture(scope="module")
def corpus():
    """1,000 images with one to five captions each, and what was said of each."""
    draw = random.Random(0)
    references = [random_captions(draw.randint(1, 5), i) for i in range(1000)]
    return references, random_captions(1000, 1001)


# The signature that trl gives to rewards.


def reward_length(completions, **kwargs):
    return [float(len(completion)) for completion in completions]


def test_a_reward_written_for_trl_runs_and_is_given_prompts_ids_and_columns():
    seen = {}

    def accuracy(prompts, completions, completion_ids, answer, **kwargs):
        seen.update(kwargs, prompts=prompts)
        return [float(a in c) + len(ids) for c, a, ids in zip(completions, answer, completion_ids, strict=True)]

    columns = {"answer": ["bus", "fish"], "level": [3, 4]}
    scores = score_completions([accuracy, reward_length], ["", ""], ["a bus", "a tree"], [[5, 1], [6]], columns)
    assert scores.tolist() == [[3.0, 5.0], [1.0, 6.0]]
    assert seen == {"level": [3, 4], "prompts": ["", ""]}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([1.0, math.nan], "`broken` must give finite numbers, got nan for completion 1"),
        ([None, 1.0], "`broken` must give finite numbers, got None for completion 0"),
        ([1.0, math.inf], "`broken` must give finite numbers, got inf for completion 1"),
        (["high", 1.0], "`broken` must give finite numbers, got 'high' for completion 0"),
        ([1.0], "`broken` must give a list of one number for each of 2 completions, got 1 values"),
        (1.0, "`broken` must give a list of one number for each of 2 completions, got a float"),
    ],
)
def test_what_is_no_finite_number_for_each_completion_is_refused_by_name(given, message):
    def broken(**kwargs):
        return given

    with pytest.raises(ValueError, match=message):
        score_completions([reward_length, broken], ["", ""], ["a", "b"], [[1], [1]], {})


def test_a_reward_may_give_a_tensor():
    scores = score_completions([lambda **kwargs: torch.tensor([1.0, 2.0])], ["", ""], ["a", "b"], [[1], [1]], {})
    assert scores.tolist() == [[1.0], [2.0]]


def test_a_reward_is_called_by_the_name_of_its_function_or_class(corpus):
    assert (reward_name(reward_length), reward_name(CiderD([["a bus"]]))) == ("reward_length", "CiderD")


# Advantages.


def test_leave_one_out_advantages_are_those_of_trl():
    rewards = torch.randn(12, generator=torch.Generator().manual_seed(0))
    expected = []
    for start in range(0, 12, 4):  # trl's RLOOTrainer, for one group after the other
        group = rewards[start : start + 4]
        expected += [(group[i] - (group.sum() - group[i]) / 3).item() for i in range(4)]
    assert rloo_advantages(rewards, 4).tolist() == pytest.approx(expected, abs=1e-6)


def test_the_greedy_caption_is_the_baseline_of_its_own_image():
    rewards, greedy = torch.tensor([1.0, 2.0, 3.0, 5.0]), torch.tensor([1.0, 4.0])
    assert greedy_advantages(rewards, greedy).tolist() == [0.0, 1.0, -1.0, 1.0]


def test_one_caption_cannot_leave_one_out():
    with pytest.raises(ValueError, match="`num_generations` must be at least 2 to leave one out, got 1"):
        rloo_advantages(torch.ones(3), 1)


# CIDEr-D.


def ngrams_of(words):
    return [tuple(words[i : i + n]) for n in range(1, 5) for i in range(len(words) - n + 1)]


def cider_d_by_hand(said: list[str], references: list[list[str]], corpus: list[list[list[str]]]) -> float:
    """The formula of the paper, with clipping and the Gaussian of lengths, and the mean over n times 10."""
    total = 0.0
    for words in references:
        for n in range(1, 5):
            vectors = []
            for text in (said, words):
                found = [ngram for ngram in ngrams_of(text) if len(ngram) == n]
                rarity = {
                    x: math.log(len(corpus)) - math.log(max(1, sum(any(x in ngrams_of(c) for c in r) for r in corpus)))
                    for x in found
                }
                vectors.append({x: found.count(x) * rarity[x] for x in found})
            norms = [math.sqrt(sum(weight**2 for weight in vector.values())) for vector in vectors]
            product = sum(
                min(weight, vectors[1].get(x, 0.0)) * vectors[1].get(x, 0.0) for x, weight in vectors[0].items()
            )
            difference = len(said) - len(words)
            if all(norms):
                total += math.exp(-(difference**2) / 72) * product / norms[0] / norms[1] / 4
    return 10 * total / len(references)


def test_cider_d_is_the_formula_with_the_end_as_a_word():
    corpus = [["a red bus", "the red bus on grass"], ["a blue fish"], ["a green tree", "the tree"]]
    reward = CiderD(corpus)
    (given,) = reward([""], ["the red bus"], [[5, 6, 7, END]], text=[corpus[0]])
    ended = [[text.split() + ["</s>"] for text in texts] for texts in corpus]
    assert given == pytest.approx(cider_d_by_hand(["the", "red", "bus", "</s>"], ended[0], ended), abs=1e-12)
    assert 1.0 < given < 10.0


@pytest.mark.skipif(not importlib.util.find_spec("pycocoevalcap"), reason="needs the extra eval")
def test_cider_d_equals_pycocoevalcap_on_1000_sets(corpus):
    from pycocoevalcap.cider.cider_scorer import CiderScorer

    references, said = corpus
    theirs = CiderScorer(n=4, sigma=6.0)
    for text, texts in zip(said, references, strict=True):
        theirs += (f"{text} </s>", [f"{reference} </s>" for reference in texts])
    ours = CiderD(references)([""] * 1000, said, None, text=references)
    assert ours == pytest.approx(theirs.compute_score()[1].tolist(), abs=1e-9)


def test_a_caption_scores_the_same_whoever_is_scored_beside_it(corpus):
    references, said = corpus
    reward = CiderD(references)
    together = reward([""] * 50, said[:50], None, text=references[:50])
    alone = [reward([""], [said[i]], None, text=[references[i]])[0] for i in range(50)]
    assert together == alone


def test_a_caption_that_was_cut_scores_less_than_one_that_ended():
    references = [["a red bus", "the red bus"], ["a blue fish"]]
    columns = {"text": [references[0]] * 2}
    ended, cut = CiderD(references)(["", ""], ["a red bus"] * 2, [[5, 6, 7, END], [5, 6, 7, 8]], **columns)
    assert cut < 0.95 * ended
    without = CiderD(references, eos_token_id=None)(["", ""], ["a red bus"] * 2, [[5, END], [5, 6]], **columns)
    assert without[0] == without[1]


def test_the_document_frequency_is_part_of_the_state(corpus):
    references, said = corpus
    reward, other = CiderD(references), CiderD([["a fish"], ["a bus"]])
    other.load_state_dict(reward.state_dict())
    columns = {"text": references[:20]}
    assert other([""] * 20, said[:20], None, **columns) == reward([""] * 20, said[:20], None, **columns)


def test_one_caption_is_a_reference_without_a_list_around_it():
    reward = CiderD(["a red bus", "a blue fish"])
    assert reward([""], ["a red bus"], None, text=["a red bus"]) == [pytest.approx(10.0)]


def test_references_that_are_not_there_are_named():
    with pytest.raises(ValueError, match=r"`CiderD` needs the references in the column `text`, got \['image'\]"):
        CiderD([["a bus"]])([""], ["a bus"], None, image=[None])


SAID = ["a red bus", "the blue fish", "a green bus", "the tree on grass"]


def test_clip_cos_is_the_logit_of_the_dual_encoder(scorer, images):
    given = ClipCos(scorer)([""] * 4, SAID, None, image=images)
    assert given == pytest.approx(scorer.score(images, SAID).tolist(), abs=1e-5)


def test_a_image_that_comes_again_is_embedded_once(scorer, images, monkeypatch):
    embedded = []
    embed_images = scorer.embed_images
    monkeypatch.setattr(scorer, "embed_images", lambda batch: embedded.append(len(batch)) or embed_images(batch))
    columns = {"image": [images[0], images[0], images[1], images[1]]}
    given = ClipCos(scorer)([""] * 4, SAID, None, **columns)
    assert embedded == [2]
    assert given == pytest.approx(scorer.score(columns["image"], SAID).tolist(), abs=1e-5)


def test_embeddings_kept_in_a_column_stand_for_the_images(scorer, tmp_path):
    rows = tiny_pairs(4)
    kept = add_image_embeds(rows, scorer)
    given = ClipCos(scorer)([""] * 4, SAID, None, image=[None] * 4, image_embeds=kept["image_embeds"][:])
    assert given == pytest.approx(scorer.score(rows["image"][:], SAID).tolist(), abs=1e-4)
    assert kept["image"][0].size == (16, 16)


@pytest.mark.parametrize("reward", ["ClipCos", "ClipAgg"])
def test_images_that_are_not_there_are_named(scorer, reward):
    rewards = {"ClipCos": ClipCos(scorer), "ClipAgg": ClipAgg(scorer, torch.ones(2, 512))}
    with pytest.raises(ValueError, match=r"needs images in the column `image` or `image_embeds`, got \['text'\]"):
        rewards[reward]([""], ["a bus"], None, text=["a bus"])


def target_by_hand(v, corpus, temperature):
    """One text after the other, in float64."""
    v, corpus = v.double(), corpus.double()
    logits = [temperature * (v @ c / c.norm()).item() for c in corpus]
    weights = [math.exp(logit - max(logits)) for logit in logits]
    return sum(w * c for w, c in zip(weights, corpus, strict=True)) / sum(weights)


@pytest.mark.parametrize("temperature", [100.0, 175.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_target_of_clip_agg_is_the_softmax_over_the_whole_corpus(scorer, temperature, dtype):
    torch.manual_seed(0)
    corpus = torch.randn(50, 8).to(dtype)  # not of length 1
    v = torch.nn.functional.normalize(torch.randn(3, 8), dim=-1).to(dtype)
    targets = ClipAgg(scorer, corpus, temperature, chunk_size=7).targets(v)
    for row, target in zip(v, targets, strict=True):
        assert target.tolist() == pytest.approx(target_by_hand(row, corpus, temperature).tolist(), abs=1e-5)


def test_a_text_that_comes_again_counts_again(scorer, monkeypatch):
    embedded = []
    embed = scorer.embed_texts
    monkeypatch.setattr(scorer, "embed_texts", lambda texts: embedded.extend(texts) or embed(texts))
    reward = ClipAgg.from_texts(scorer, ["a fish", "a tree", "a fish", "a fish"], temperature=5.0, chunk_size=1)
    assert embedded == ["a fish", "a tree"] and reward.counts.tolist() == [3, 1]
    v = torch.nn.functional.normalize(torch.ones(1, reward.corpus_embeds.size(1)), dim=-1)
    four = ClipAgg(scorer, reward.corpus_embeds[[0, 1, 0, 0]], temperature=5.0)
    assert reward.targets(v)[0].tolist() == pytest.approx(four.targets(v)[0].tolist(), abs=1e-6)


def test_texts_that_are_all_one_do_not_overflow(scorer):
    v = torch.nn.functional.normalize(torch.ones(1, 8), dim=-1)
    targets = ClipAgg(scorer, v.repeat(20, 1).bfloat16(), 175.0, chunk_size=3).targets(v)
    assert targets[0].tolist() == pytest.approx(v[0].tolist(), abs=1e-3)


def test_clip_agg_is_half_the_cosine_and_half_the_distance(scorer, images):
    reward = ClipAgg.from_texts(scorer, SAID, temperature=10.0, chunk_size=3)
    given = reward([""] * 2, ["a red fish", "a tree"], None, image=[images[1], images[0]])
    corpus, said = scorer.embed_texts(SAID).half(), scorer.embed_texts(["a red fish", "a tree"])
    for score, v, g in zip(given, scorer.embed_images([images[1], images[0]]), said, strict=True):
        t = target_by_hand(v, corpus, 10.0).float()
        cosine = (t @ g / t.norm()).item()
        assert score == pytest.approx(
            0.5 * scorer.logit_scale.item() * (cosine + 1 - (t - g).abs().mean().item()), abs=1e-4
        )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"corpus_embeds": torch.ones(0, 4)}, r"`corpus_embeds` must be \(num_texts, embed_dim\), at least one text"),
        ({"temperature": 0.0}, "`temperature` must be positive, got 0.0"),
        ({"chunk_size": 0}, "`chunk_size` must be positive, got 0"),
        ({"counts": torch.ones(3)}, r"`counts` must be one positive number for each of 2 texts, got \(3,\)"),
        ({"counts": torch.tensor([1, 0])}, "`counts` must be one positive number .* 0 at least"),
    ],
)
def test_a_corpus_that_cannot_be_used_is_refused(scorer, arguments, message):
    with pytest.raises(ValueError, match=message):
        ClipAgg(scorer, **({"corpus_embeds": torch.ones(2, 4)} | arguments))


MILLION = """
import resource, torch
from itit_hf import ClipAgg
corpus = torch.empty(1_000_000, 512, dtype=torch.float16)
for chunk in corpus.split(10_000):
    chunk.normal_()
v = torch.nn.functional.normalize(torch.randn(4, 512), dim=-1)
targets = ClipAgg(None, corpus, 175.0).targets(v)
print(bool(targets.isfinite().all()), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
"""


@pytest.mark.slow
def test_a_million_texts_take_less_than_two_gigabytes():
    output = subprocess.run([sys.executable, "-c", MILLION], check=True, capture_output=True, text=True).stdout
    finite, peak = output.split()
    assert finite == "True" and int(peak) < 2e9


# DiscriminatorReward.


def sentences(count: int, seed: int) -> list[str]:
    """Of a small grammar."""
    draw = random.Random(seed)
    choices = draw.choice
    return [f"{choices(['a', 'the'])} {choices(WORDS[2:5])} {choices(WORDS[5:8])} on the grass" for _ in range(count)]


def shuffled(texts: list[str], seed: int) -> list[str]:
    draw = random.Random(seed)
    return [" ".join(draw.sample(text.split(), k=len(text.split()))) for text in texts]


def auc(positive: list[float], negative: list[float]) -> float:
    pairs = [(p > n) + 0.5 * (p == n) for p in positive for n in negative]
    return sum(pairs) / len(pairs)


def small_naturalness():
    torch.manual_seed(0)
    return DiscriminatorReward.small(tiny_tokenizer(), learning_rate=3e-3, hidden_size=32)


def test_naturalness_learns_to_tell_sentences_from_shuffled_words():
    reward = small_naturalness()
    for step in range(60):
        figures = reward.update(sentences(16, step), shuffled(sentences(16, 1000 + step), step))
    real = sentences(60, 5000)
    fake = [text for text in shuffled(sentences(60, 6000), 0) if text not in set(sentences(500, 1))]
    scores = [reward([""] * len(texts), texts) for texts in (real, fake)]
    assert auc(*scores) > 0.95
    assert figures["accuracy"] > 0.8 and figures["loss"] < math.log(2)


def test_real_and_fake_texts_weigh_the_same_however_many_there_are():
    real, fake = sentences(2, 0), shuffled(sentences(3, 1), 0)
    once, often = small_naturalness(), small_naturalness()
    for reward in (once, often):
        for module in reward.model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
    scores = [torch.tensor(once([""] * len(texts), texts)) for texts in (real, fake)]
    figures = once.update(real, fake), often.update(real, fake * 4)
    for name in ("loss", "accuracy"):
        torch.testing.assert_close(figures[0][name], figures[1][name])
    costs = torch.nn.functional.softplus(-scores[0]).mean(), torch.nn.functional.softplus(scores[1]).mean()
    torch.testing.assert_close(figures[0]["loss"], (costs[0] + costs[1]) / 2)
    right = (scores[0] > 0).float().mean(), (scores[1] < 0).float().mean()
    assert figures[0]["accuracy"] == (right[0] + right[1]) / 2


def test_a_discriminator_goes_on_bit_exactly_from_its_state():
    whole, other = small_naturalness(), small_naturalness()
    torch.manual_seed(1)
    whole.update(sentences(8, 0), shuffled(sentences(8, 1), 0))
    other.load_state_dict(copy.deepcopy(whole.state_dict()))
    scores = []
    for reward in (whole, other):
        torch.manual_seed(2)  # dropout; a trainer restores the state of the generators
        reward.update(sentences(8, 2), shuffled(sentences(8, 3), 0))
        scores.append(reward([""] * 8, sentences(8, 4)))
    assert scores[0] == scores[1]


def test_a_score_does_not_train_and_has_no_dropout():
    reward = small_naturalness()
    reward.update(["a red bus"], ["bus a red"])
    before = copy.deepcopy(reward.model.state_dict())
    assert reward([""], ["a red bus"]) == reward([""], ["a red bus"])
    assert all(torch.equal(value, before[name]) for name, value in reward.model.state_dict().items())


def test_a_classifier_of_two_labels_is_refused():
    model = small_naturalness().model
    model.config.num_labels = 2
    with pytest.raises(ValueError, match="`model` must be a classifier of one label, got 2"):
        DiscriminatorReward(model, tiny_tokenizer())
