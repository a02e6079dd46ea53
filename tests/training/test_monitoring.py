# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
import math
from types import SimpleNamespace

import pytest
import torch

from itit_hf.training.monitoring import (
    Monitor,
    check_thresholds,
    code_counts,
    cross_entropy_by_mask_ratio,
    distinct_ngrams,
    entropy,
    gradient_figures,
    identical_pairs,
)

EOS = 1


def make_monitor(**shown):
    return Monitor(["t2i2t", "i2t2i"], codebook_size=4, eos_token_id=EOS, **shown)


def captions(*rows):
    """Rows of ids, zeros are padding."""
    ids = torch.tensor(rows)
    return {"input_ids": ids, "attention_mask": (ids != 0).long()}


def sure_of_the_label(certainty, num_positions):
    """Two codes; the label has the given probability at every position."""
    logits = torch.tensor([math.log(certainty), math.log(1 - certainty)]).expand(num_positions, 2)
    return logits, torch.zeros(num_positions, dtype=torch.long)


def test_codes_are_counted_image_by_image():
    counts = code_counts(torch.tensor([[0, 0, 2], [2, 2, 2]]), codebook_size=4)
    assert counts.tolist() == [[2, 0, 1, 0], [0, 0, 3, 0]]


def test_the_entropy_is_in_nats():
    assert entropy(torch.tensor([5, 0, 5])) == pytest.approx(math.log(2))
    assert entropy(torch.tensor([0, 7, 0])) == 0.0


def test_three_equal_captions_of_four_make_three_equal_pairs_of_six():
    assert identical_pairs([(2, 3), (2, 3), (4,), (2, 3)]) == (3, 6)


def test_ngrams_are_counted_over_all_captions_and_do_not_cross_them():
    red_bus, red_fish = (5, 6), (5, 7)
    assert distinct_ngrams([red_bus, red_fish], 1) == (3, 4)
    assert distinct_ngrams([red_bus, red_fish, red_bus], 2) == (2, 3)
    assert distinct_ngrams([(5,)], 2) == (0, 0)


def test_the_cross_entropy_is_sorted_by_how_much_is_hidden():
    logits, labels = sure_of_the_label(0.5, 10)
    more_sure, _ = sure_of_the_label(0.25, 10)
    mask = torch.zeros(4, 10, dtype=torch.bool)
    for row, hidden in enumerate([6, 6, 5, 10]):
        mask[row, :hidden] = True
    sums = cross_entropy_by_mask_ratio(torch.stack([logits, more_sure, logits, logits]), labels.expand(4, 10), mask)
    assert sums[6].tolist() == pytest.approx([math.log(2) + math.log(4), 2.0])  # exactly 60%, which begins a bucket
    assert sums[5].tolist() == pytest.approx([math.log(2), 1.0])
    assert sums[9].tolist() == pytest.approx([math.log(2), 1.0])  # all hidden
    assert sums[:5].abs().sum() == 0


def test_a_images_cross_entropy_is_the_mean_of_its_hidden_tokens_alone():
    logits, labels = sure_of_the_label(0.5, 4)
    labels = torch.where(torch.tensor([True, True, False, False]), labels, -100)
    mask = torch.tensor([[True, True, False, False]])
    assert cross_entropy_by_mask_ratio(logits[None], labels[None], mask)[5].tolist() == pytest.approx([math.log(2), 1])


def test_a_image_that_hides_nothing_is_not_counted():
    logits, labels = sure_of_the_label(0.5, 4)
    sums = cross_entropy_by_mask_ratio(logits[None], torch.full_like(labels, -100)[None], torch.zeros(1, 4).bool())
    assert sums.sum() == 0


def test_drawn_images_give_usage_entropy_and_the_share_of_plain_ones():
    monitor = make_monitor()
    monitor.generated("t2i2t", torch.tensor([[0, 0, 0, 0]]))
    monitor.generated("t2i2t", torch.tensor([[2, 2, 2, 0]]))
    figures = monitor.pop()
    assert figures["synthesis/t2i2t/code_usage"] == 0.5
    assert figures["synthesis/t2i2t/code_entropy"] == pytest.approx(entropy(torch.tensor([5, 3])))
    assert figures["synthesis/t2i2t/one_colour_images"] == 0.5
    assert not any("i2t2i" in name for name in figures)


@pytest.mark.parametrize(("others", "share"), [(1, 1.0), (2, 0.0)])
def test_a_image_is_plain_from_95_percent_on(others, share):
    image = torch.zeros(1, 20, dtype=torch.long)
    image[0, :others] = 3
    monitor = make_monitor()
    monitor.generated("t2i2t", image)
    assert monitor.pop()["synthesis/t2i2t/one_colour_images"] == share


def test_captions_give_how_many_are_the_same_and_how_many_do_not_end():
    monitor = make_monitor()
    monitor.captioned("i2t2i", captions([5, 6, EOS, 0], [5, 6, EOS, 0], [5, 7, 8, 9]))
    assert monitor.pop() == {
        "synthesis/i2t2i/identical_captions": pytest.approx(1 / 3),
        "synthesis/i2t2i/distinct_1": pytest.approx(5 / 8),  # 5 6 7 8 9; the end of sequence is not a word
        "synthesis/i2t2i/distinct_2": pytest.approx(4 / 5),
        "synthesis/i2t2i/endless_captions": pytest.approx(1 / 3),
    }


def test_captions_of_several_micro_batches_are_compared_with_each_other():
    monitor = make_monitor()
    monitor.captioned("i2t2i", captions([5, EOS]))
    monitor.captioned("i2t2i", captions([5, EOS, 0]))
    assert monitor.pop()["synthesis/i2t2i/identical_captions"] == 1.0


def test_a_single_caption_is_like_no_other():
    monitor = make_monitor()
    monitor.captioned("i2t2i", captions([5, EOS]))
    assert "synthesis/i2t2i/identical_captions" not in monitor.pop()


def prediction():
    logits, labels = sure_of_the_label(0.5, 4)
    mask = torch.tensor([[True, True, True, False]])
    output = SimpleNamespace(image_logits=logits[None].requires_grad_(), image_labels=labels[None])
    return output, mask


def test_predictions_give_the_cross_entropy_of_their_bucket():
    monitor = make_monitor()
    monitor.predicted("i2t2i", *prediction())
    assert monitor.pop() == {"cross_entropy/i2t2i/0.7-0.8": pytest.approx(math.log(2))}


def test_while_it_is_not_active_it_counts_images_only():
    monitor = make_monitor()
    monitor.active = False
    monitor.generated("t2i2t", torch.tensor([[0, 1, 2, 3]]))
    monitor.captioned("i2t2i", captions([5, EOS]))
    monitor.predicted("i2t2i", *prediction())
    assert {name.rpartition("/")[2] for name in monitor.pop()} == {"code_usage", "code_entropy", "one_colour_images"}


def test_popping_starts_anew():
    monitor = make_monitor()
    monitor.generated("t2i2t", torch.tensor([[0, 1, 2, 3]]))
    monitor.captioned("i2t2i", captions([5, EOS]))
    monitor.predicted("i2t2i", *prediction())
    monitor.pop()
    assert monitor.pop() == {}


def test_processes_are_summed_before_anything_is_divided():
    here, there = make_monitor(), make_monitor()
    here.generated("t2i2t", torch.tensor([[0, 0, 0, 0]]))
    there.generated("t2i2t", torch.tensor([[0, 1, 1, 1], [0, 1, 2, 2], [0, 0, 0, 0]]))
    here.captioned("i2t2i", captions([5, EOS], [5, EOS]))
    there.captioned("i2t2i", captions([5, EOS], [6, EOS], [7, 8]))
    states = []
    there.pop(lambda sums: states.append(sums) or sums)

    def add(sums):
        return [a + b for a, b in zip(sums, states[0], strict=True)]

    figures = here.pop(add)
    assert figures["synthesis/t2i2t/code_usage"] == 0.75
    assert figures["synthesis/t2i2t/code_entropy"] == pytest.approx(entropy(torch.tensor([10, 4, 2])))
    assert figures["synthesis/t2i2t/one_colour_images"] == 0.5
    assert figures["synthesis/i2t2i/endless_captions"] == pytest.approx(1 / 5)
    assert figures["synthesis/i2t2i/identical_captions"] == pytest.approx(1 / 4)  # one pair here, three there


def test_a_process_that_saw_nothing_sums_the_same_tensors():
    shapes = []
    for monitor in (make_monitor(), make_monitor()):
        if shapes:
            monitor.generated("t2i2t", torch.tensor([[0, 1, 2, 3]]))
            monitor.captioned("i2t2i", captions([5, EOS]))
        monitor.pop(lambda sums: shapes.append([(t.shape, t.dtype) for t in sums]) or sums)
    assert shapes[0] == shapes[1]


def test_the_first_samples_of_the_last_cycle_are_kept():
    monitor = make_monitor(num_shown=1)
    text = captions([5, 6, EOS], [7, EOS, 0]) | {"sample_index": torch.arange(2), "replay_index": torch.tensor(0)}
    back = captions([5, 5, 5], [6, 6, 6])
    for image in (2, 3):
        monitor.cycled("t2i2t", text, torch.full((2, 4), image), back)
    original, drawn, again = monitor.cycles["t2i2t"]
    assert {name: value.tolist() for name, value in original.items()} == {
        "input_ids": [[5, 6, EOS]], "attention_mask": [[1, 1, 1]]
    }  # fmt: skip
    assert drawn.tolist() == [[3, 3, 3, 3]]
    assert again["input_ids"].tolist() == [[5, 5, 5]] and again["attention_mask"].tolist() == [[1, 1, 1]]


def test_nothing_is_kept_unless_asked_for():
    monitor = make_monitor()
    monitor.cycled("i2t2i", torch.zeros(1, 4), captions([5, EOS]), torch.zeros(1, 4))
    assert monitor.cycles == {}


@pytest.mark.parametrize(
    ("figure", "quiet", "loud", "words"),
    [
        ("identical_captions", 0.5, 0.51, "is 0.51, above 0.5: captions have collapsed"),
        ("endless_captions", 0.5, 1.0, "is 1, above 0.5: captions never end"),
        ("one_colour_images", 0.5, 0.75, "is 0.75, above 0.5: images have collapsed to plain areas"),
        ("code_entropy", 1.0, 0.3, "is 0.3, below 1: images have collapsed to fewer than three codes"),
    ],
)
def test_an_alarm_is_raised_beyond_its_limit_and_silent_at_it(figure, quiet, loud, words):
    name = f"synthesis/t2i2t/{figure}"
    assert check_thresholds({name: quiet}) == []
    (message,) = check_thresholds({name: loud})
    assert f"`{name}` {words}" in message


def test_alarms_come_from_collapsed_samples_and_not_from_varied_ones():
    monitor = make_monitor()
    monitor.generated("t2i2t", torch.tensor([[0, 1, 2, 3], [3, 1, 0, 2]]))
    monitor.captioned("i2t2i", captions([5, 6, EOS], [7, EOS, 0], [8, EOS, 0]))
    assert check_thresholds(monitor.pop()) == []
    monitor.generated("t2i2t", torch.zeros(2, 4, dtype=torch.long))
    monitor.captioned("i2t2i", captions([5, 5, 5], [5, 5, 5], [5, 5, 5]))
    raised = [message.split("`")[1].rpartition("/")[2] for message in check_thresholds(monitor.pop())]
    assert sorted(raised) == ["code_entropy", "endless_captions", "identical_captions", "one_colour_images"]


@pytest.fixture
def plane():
    """A point of the plane, and losses whose gradients one can read off."""
    x, frozen = torch.nn.Parameter(torch.tensor([1.0, 1.0])), torch.nn.Parameter(torch.ones(1), requires_grad=False)
    losses = {
        "t2i2t": (x * torch.tensor([3.0, 4.0])).sum(),
        "t2i": x[0] * 2.0,
        "i2t": x[1] * 1.0,
        "i2t2i": -2.0 * x[0] - 4.0 * x[1],
    }
    return losses, [x, frozen]


def test_the_norm_of_each_losss_own_gradient(plane):
    figures = gradient_figures(*plane, reference={})
    norms = {"t2i2t": 5.0, "t2i": 2.0, "i2t": 1.0, "i2t2i": math.sqrt(20)}
    assert figures == {f"gradient_norm/{name}": pytest.approx(norm) for name, norm in norms.items()}


def test_the_cosine_is_to_the_weighted_sum_of_the_reference(plane):
    figures = gradient_figures(*plane, reference={"t2i": 0.5, "i2t": 2.0})  # (1, 2)
    assert figures["gradient_cosine/t2i2t"].item() == pytest.approx(11 / (5 * math.sqrt(5)))
    assert figures["gradient_cosine/i2t2i"].item() == pytest.approx(-1.0)
    assert "gradient_cosine/t2i" not in figures


def test_measuring_leaves_the_gradients_and_the_graph_alone(plane):
    losses, (x, _) = plane
    gradient_figures(losses, [x], reference={"t2i": 1.0})
    assert x.grad is None
    sum(losses.values()).backward()
    assert x.grad.tolist() == [3.0, 1.0]


def test_a_parameter_that_a_loss_does_not_reach_counts_as_zero():
    a, b = torch.nn.Parameter(torch.ones(1)), torch.nn.Parameter(torch.ones(1))
    figures = gradient_figures({"t2i": a.sum(), "t2t": b.sum()}, [a, b], reference={"t2i": 1.0})
    assert figures["gradient_norm/t2t"] == 1.0 and figures["gradient_cosine/t2t"] == 0.0
