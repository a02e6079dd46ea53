# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
import pytest
import torch

from itit_hf.rng import gumbel, keyed_generators, keyed_integer, rand

from .testing_utils import generators


def test_a_sample_with_its_own_generator_ignores_its_neighbours():
    alone = rand(1, (3,), generators(7))
    among = rand(3, (3,), generators(1, 7, 2))
    assert torch.equal(alone[0], among[1])


def test_rand_names_a_wrong_number_of_generators():
    with pytest.raises(ValueError, match="`generator` is a list of 2; wanted one for each of the 3 samples"):
        rand(3, (), generators(1, 2))


def test_keyed_noise_is_a_pure_function_of_seed_purpose_and_key():
    first, again = (rand(2, (4,), keyed_generators(0, "mask/t2i", [5, 6])) for _ in range(2))
    assert torch.equal(first, again)
    others = [keyed_integer(1, "mask/t2i", 5), keyed_integer(0, "mask/i2t", 5), keyed_integer(0, "mask/t2i", 6)]
    assert keyed_integer(0, "mask/t2i", 5) not in others


def test_gumbel_noise_is_finite_at_both_ends():
    assert gumbel(torch.tensor([0.0, 0.5, 1.0])).isfinite().all()
