# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
import pytest
import torch

from itit_hf.objectives.caching import SynthesisReplay, TextFeatureCache

from ..testing_utils import tiny_text_encoder


def part(position, use):
    return {"sample_index": torch.tensor([position, position + 1]), "replay_index": torch.tensor(use)}


def count_calls():
    calls = []

    def synthesise():
        calls.append(1)
        return {"ids": torch.full((2, 3), len(calls))}

    return calls, synthesise


def test_without_replay_each_use_is_synthesised_and_nothing_kept():
    replay, (calls, synthesise) = SynthesisReplay(1), count_calls()
    for position in range(3):
        replay("t2i2t", part(position, 0), synthesise)
    assert len(calls) == 3 and len(replay) == 0


def test_one_synthesis_serves_its_updates():
    replay, (calls, synthesise) = SynthesisReplay(3), count_calls()
    served = [replay("t2i2t", part(0, use), synthesise)["ids"][0, 0].item() for use in range(3)]
    assert served == [1, 1, 1] and len(calls) == 1


def test_what_has_served_is_dropped():
    replay, (_, synthesise) = SynthesisReplay(2), count_calls()
    for use in range(2):
        replay("t2i2t", part(0, use), synthesise)
    assert len(replay) == 0


def test_objectives_and_micro_batches_do_not_share():
    replay, (_, synthesise) = SynthesisReplay(2), count_calls()
    first = [("t2i2t", 0), ("t2i2t", 2), ("t2i2t_half", 0)]
    for name, position in first:
        replay(name, part(position, 0), synthesise)
    assert [replay(name, part(p, 1), synthesise)["ids"][0, 0].item() for name, p in first] == [1, 2, 3]


def test_the_state_goes_through_a_file(tmp_path):
    from safetensors.torch import load_file, save_file

    replay, (calls, synthesise) = SynthesisReplay(2), count_calls()
    replay("i2t2i", part(4, 0), synthesise)
    save_file(replay.state_dict(), tmp_path / "replay.safetensors")
    resumed = SynthesisReplay(2)
    resumed.load_state_dict(load_file(tmp_path / "replay.safetensors"))
    assert resumed("i2t2i", part(4, 1), synthesise)["ids"].tolist() == [[1, 1, 1], [1, 1, 1]] and len(calls) == 1


def test_resuming_without_the_kept_samples_is_refused():
    with pytest.raises(ValueError, match="`t2i2t` at sample 8 are not kept, but this is update 2 of the 4"):
        SynthesisReplay(4)("t2i2t", part(8, 1), dict)


IDS = torch.tensor([[3, 4, 1, 0], [5, 6, 7, 1], [3, 4, 1, 0]])
MASK = (IDS > 0).long()


@pytest.fixture
def encoder():
    """Counts the texts that it reads."""
    torch.manual_seed(0)
    encoder = tiny_text_encoder()
    encoder.num_read = 0

    def count(module, args, kwargs):
        module.num_read += len(kwargs["input_ids"])

    encoder.register_forward_pre_hook(count, with_kwargs=True)
    return encoder


def test_features_are_those_of_the_encoder(encoder):
    want = encoder(input_ids=IDS, attention_mask=MASK).last_hidden_state
    features = TextFeatureCache(encoder, 8)(IDS, MASK)
    torch.testing.assert_close(features[MASK == 1], want[MASK == 1], atol=1e-5, rtol=1e-5)


def test_a_text_is_read_once_however_it_is_padded(encoder):
    cache = TextFeatureCache(encoder, 8)
    first = cache(IDS, MASK)
    again = cache(IDS[:1, :3], MASK[:1, :3])
    assert encoder.num_read == 2 and len(cache) == 2
    assert torch.equal(again[0], first[0, :3]) and torch.equal(first[2], first[0])


def test_features_do_not_depend_on_the_batch_that_a_text_came_in(encoder):
    alone = TextFeatureCache(encoder, 8)(IDS[:1, :3], MASK[:1, :3])
    assert torch.equal(TextFeatureCache(encoder, 8)(IDS, MASK)[0, :3], alone[0])


def test_the_texts_read_last_are_kept(encoder):
    cache = TextFeatureCache(encoder, 1)
    cache(IDS, MASK)  # the first, the second, the first again
    assert encoder.num_read == 3 and len(cache) == 1
    cache(IDS[2:], MASK[2:])
    assert encoder.num_read == 3


def test_without_room_a_batch_is_read_as_it_is(encoder):
    cache = TextFeatureCache(encoder)
    with torch.no_grad():
        want = encoder(input_ids=IDS, attention_mask=MASK).last_hidden_state
    assert torch.equal(cache(IDS, MASK), want) and len(cache) == 0
