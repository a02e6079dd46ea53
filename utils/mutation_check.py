# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""Check that the tests notice faults: each of `FAULTS` is put into a copy of the package, and its test must fail.

    python utils/mutation_check.py [--only WORD]

Needs the package's dev extra. The repository itself is not touched. First the named tests are run without any fault:
a test that fails anyway would show nothing.
"""

import argparse
import os
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

PACKAGE = "itit_hf"
ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Mutant:
    """A fault that a person could make.

    Args:
        module (`str`): Where, as a path within the package.
        right (`str`): What stands there, once.
        wrong (`str`): What stands there instead.
        test (`str`): What must fail, as pytest names it, counted from `tests/`.
    """

    module: str
    right: str
    wrong: str
    test: str


FAULTS = (
    # Losses and masks.
    Mutant("objectives/losses", "loss = token_loss.sum(dim=-1) /", "loss = -token_loss.sum(dim=-1) /",
          "objectives/test_losses.py::test_uniform_logits_cost_the_logarithm_of_the_number_of_classes"),
    Mutant("objectives/losses", "return _mean_per_sample(token_loss.view_as(labels), labels != -100, sample_weights)",
          "return token_loss.mean()",
          "objectives/test_losses.py::test_loss_equals_the_hand_written_reference"),
    Mutant("objectives/losses", ".masked_fill(~valid, -100)", ".masked_fill(valid, -100)",
          "objectives/test_losses.py::test_masked_labels_ignore_the_filling"),
    Mutant("objectives/forward", "prefix[:, -1] = bos_token_id", "prefix[:, 0] = bos_token_id",
          "objectives/test_forward.py::test_caption_inputs_start_with_the_prefix_and_bos_and_leave_the_last_token_out"),
    Mutant("masking", "rank < (mask_ratio * num_tokens).ceil()[:, None]",
          "rank >= (mask_ratio * num_tokens).ceil()[:, None]",
          "test_masking.py::test_random_mask_hides_exactly_the_ceiling"),
    Mutant("rng", 'f"{seed}/{purpose}/{int(key)}"', 'f"{seed}/{purpose}"',
          "test_rng.py::test_keyed_noise_is_a_pure_function_of_seed_purpose_and_key"),
    Mutant("rng", 'f"{seed}/{purpose}/{int(key)}"', 'f"{purpose}/{int(key)}"',
          "test_rng.py::test_keyed_noise_is_a_pure_function_of_seed_purpose_and_key"),
    Mutant("rng", "return -(-uniform.log()).log()", "return (-uniform.log()).log()",
          "models/test_straight_through_itit.py::test_gumbel_noise_samples_from_the_softmax"),
    Mutant("masking", "half if count >= half else 0", "half if count > half else 0",
          "test_masking.py::test_half_drop_keeps_half_and_every_visible_token"),
    # Cycles and straight-through.
    Mutant("models/straight_through_itit", "return hard + probs - probs.detach()", "return hard",
          "models/test_straight_through_itit.py::test_one_hot_forward_and_softmax_backward"),
    Mutant("models/straight_through_itit", "index_add_(0, ids, flat_gradient.to(table.dtype))",
          "index_add_(0, ids, -flat_gradient.to(table.dtype))",
          "models/test_straight_through_itit.py::test_the_form_without_logits_equals_the_dense_one"),
    Mutant("objectives/cycle", "        encoder_gradient_scale=0.0,\n", "",
          "objectives/test_cycle.py::test_t2i2t_stops_gradients_at_the_first_encoder_pass"),
    Mutant("objectives/cycle", "wanted = said & ~second", "wanted = said & second",
          "objectives/test_cycle.py::test_the_first_leg_says_what_the_second_is_shown_and_nothing_else"),
    Mutant("objectives/objectives", 'purpose, part["sample_index"].tolist()',
          'purpose, list(range(len(part["sample_index"])))',
          "objectives/test_objectives.py::test_a_samples_losses_and_gradients_do_not_depend_on_its_neighbours"),
    Mutant("objectives/objectives", "~after_end).long()", "~is_end).long()",
          "objectives/test_objectives.py::test_the_text_ends_at_its_first_end_of_sequence"),
    Mutant("objectives/objectives", "unwrapped.train(training)", "unwrapped.train(False)",
          "objectives/test_objectives.py::test_synthesis_leaves_the_model_in_training"),
    # Decoding.
    Mutant("decoding/sampling", "return torch.lerp(uncond, cond, guidance_scale)",
          "return torch.lerp(uncond, cond, guidance_scale - 1.0)",
          "decoding/test_sampling.py::test_guidance_scale_is_one_plus_tau"),
    Mutant("decoding/sampling", "mask.bool(), (0, length - mask.size(1))",
          "mask.bool(), (0, length - mask.size(1)), value=True",
          "decoding/test_sampling.py::test_one_call_of_both_passes_draws_what_two_calls_draw[longer text-half]"),
    Mutant("decoding/sampling", "cond, uncond = logits(twice,", "uncond, cond = logits(twice,",
          "decoding/test_sampling.py::test_one_call_of_both_passes_draws_what_two_calls_draw[null text-all]"),
    Mutant("decoding/sampling", "if not finite:", "if finite is None:",
          "decoding/test_sampling.py::test_broken_weights_are_named"),
    Mutant("models/generation_itit",
          "if not scores[:, : self.num_text_tokens].isfinite().all():", "if scores is None:",
          "reliability/test_numbers.py::test_broken_logits_are_a_named_error_or_valid_ids[text]"),
    # Data.
    Mutant("data/streams", 'f"shuffle/{self.name}", epoch', 'f"shuffle/{self.name}", 0',
          "data/test_streams.py::test_each_epoch_holds_every_row_once_in_a_new_order"),
    Mutant("data/streams", "range(self.first_update * self.accumulation, len(self))",
          "range(self.first_update, len(self))",
          "reliability/test_resume.py::test_a_run_goes_on_bit_identically_after_any_step[pairs-5]"),
    Mutant("data/streams", "index = (index + 1) % len(self.rows)", "index = 0",
          "data/test_streams.py::test_a_row_with_a_bad_image_is_replaced_by_the_next_one_and_counted"),
    Mutant("data/streams", 'if self.on_bad_image == "raise":', "if False:",
          "data/test_streams.py::test_a_bad_image_is_named_by_its_row_unless_it_is_skipped"),
    Mutant("models/image_loading_itit", "limits.check_size(*image.size, name)\n    if reduce_to",
          "if reduce_to", "models/test_image_loading_itit.py::test_bomb_is_refused_by_its_header"),
    # Checkpoints.
    Mutant("training/checkpointing", "        os.fsync(descriptor)\n", "        pass\n",
          "training/test_checkpointing.py::test_what_was_written_is_on_the_disk_before_it_has_its_name"),
    Mutant("training/checkpointing", "    _flush(manifest_path)\n", "",
          "training/test_checkpointing.py::test_what_was_written_is_on_the_disk_before_it_has_its_name"),
    Mutant("training/checkpointing", '        if _sha256(path) != wanted["sha256"]:', "        if False:",
          "reliability/test_crashes.py::test_each_file_damaged_in_each_way_is_refused_by_name"),
    Mutant("training/checkpointing", "if manifest.to_bytes() != data:", "if False:",
          "training/test_checkpointing.py::test_a_manifest_that_was_changed_is_refused"),
    Mutant("training/checkpointing", "if os.path.abspath(folder) not in kept]", "]",
          "training/test_checkpointing.py::test_rotation_deletes_the_oldest_and_never_what_is_to_be_kept"),
    Mutant("training/checkpointing", "sorted(found, reverse=True)", "sorted(found)",
          "training/test_checkpointing.py::test_the_newest_that_verifies_is_found_and_the_others_are_explained"),
    Mutant("training/checkpointing", "    if needed > free:", "    if False:",
          "training/test_checkpointing.py::test_too_little_room_is_said_in_bytes_before_anything_is_written"),
    # The trainer's state.
    Mutant("training/resilient_trainer", '"torch": torch.get_rng_state(),', '"torch": torch.Generator().get_state(),',
          "reliability/test_resume.py::test_a_run_goes_on_bit_identically_after_any_step[pairs-5]"),
    Mutant("training/resilient_trainer", "        self.optimizer.load_state_dict(state)\n", "",
          "reliability/test_resume.py::test_a_run_goes_on_bit_identically_after_any_step[pairs-5]"),
    Mutant("training/resilient_trainer", "            if not may_lack:", "            if False:",
          "training/test_trainer.py::test_a_checkpoint_without_the_average_is_refused"),
    Mutant("training/resilient_trainer",
          "            self._together(self._check_weights)\n            self._together(stage)",
          "            self._together(stage)",
          "reliability/test_numbers.py::test_what_is_not_finite_is_left_out_or_ends_the_run[weight-nan-False]"),
    Mutant("training/resilient_trainer", "            parameter.grad = None", "            pass",
          "reliability/test_numbers.py::test_what_is_not_finite_is_left_out_or_ends_the_run[loss-nan-False]"),
    Mutant("training/resilient_trainer", "            self._skipped_in_a_row = 0\n        return norm",
          "            pass\n        return norm",
          "training/test_resilient_trainer.py::test_only_skips_in_a_row_end_the_training"),
    Mutant("training/trainer", 'parts["ema"] = self._averages, self._set_averages', "pass",
          "training/test_trainer.py::test_a_resumed_run_is_bit_identical"),
    Mutant("objectives/caching", "self._kept[key] if replay_index + 1 < self.num_updates else self._kept.pop(key)",
          "self._kept[key]",
          "objectives/test_caching.py::test_what_has_served_is_dropped"),
    # Rewards.
    Mutant("rewards/captions", "if ended and self.eos_token_id is not None", "if self.eos_token_id is not None",
          "rewards/test_captions.py::test_a_caption_that_was_cut_scores_less_than_one_that_ended"),
    Mutant("rewards/captions", "/ (num_generations - 1)", "/ num_generations",
          "rewards/test_captions.py::test_leave_one_out_advantages_are_those_of_trl"),
    Mutant("rewards/captions", "        return math.isfinite(value)", "        return value is not None",
          "rewards/test_captions.py::test_what_is_no_finite_number_for_each_completion_is_refused_by_name"),
    Mutant("rewards/captions", "(largest - peak).exp()", "torch.ones_like(peak)",
          "rewards/test_captions.py::test_the_target_of_clip_agg_is_the_softmax_over_the_whole_corpus"),
    Mutant("rewards/captions", 'self.optimizer.load_state_dict(state["optimizer"])', "pass",
          "rewards/test_captions.py::test_a_discriminator_goes_on_bit_exactly_from_its_state"),
    Mutant("training/reward_trainer", "(advantages * surprise).mean()", "-(advantages * surprise).mean()",
          "training/test_reward_trainer.py::test_the_loss_is_the_advantage_times_the_log_probability"),
    Mutant("training/reward_trainer", "            parameter.grad = None", "            pass",
          "training/test_reward_trainer.py::test_the_idle_decoder_waits_until_the_objectives_have_their_turn"),
    Mutant("training/reward_trainer", "                reward.load_state_dict(states[name])", "                pass",
          "training/test_reward_trainer.py::test_a_run_with_rewards_that_have_state_resumes_bit_identically"),
    # Files of others.
    Mutant("pipelines/safe_loading", "tuple(map(str, value)) not in table[name]", "len(value) != 2",
          "pipelines/test_safe_loading.py::test_classes_that_are_not_in_the_table_are_refused"),
)  # fmt: skip


def copy_package(folder: Path, fault: Mutant | None) -> Path:
    """A copy of `src`, with the fault in it."""
    source = Path(shutil.copytree(ROOT / "src", folder / "src"))
    if fault is not None:
        path = source / PACKAGE / f"{fault.module}.py"
        text = path.read_text(encoding="utf-8")
        if text.count(fault.right) != 1:
            raise ValueError(f"{fault.module}: {fault.right!r} stands there {text.count(fault.right)} times, not once")
        path.write_text(text.replace(fault.right, fault.wrong), encoding="utf-8")
    return source


def run_tests(source: Path, tests: list[str]) -> int:
    """Exit status of pytest, in a child in which the package is that copy; 0 is that all pass, 1 that one fails."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    status = 99
    try:
        import pytest

        sys.path.insert(0, str(source))
        os.chdir(ROOT)
        for stream in (1, 2):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
        options = ["-q", "-x", "-p", "no:cacheprovider", "-p", "no:xdist", "-m", "slow or not slow"]
        status = int(pytest.main([*options, *(f"tests/{test}" for test in tests)]))
        if Path(sys.modules[PACKAGE].__file__).parents[1] != source:
            status = 98
    finally:
        os._exit(status)


def check(faults: list[Mutant]) -> list[str]:
    """A line for each fault that its test does not notice."""
    problems = []
    with tempfile.TemporaryDirectory() as folder:
        tests = sorted({fault.test for fault in faults})
        if run_tests(copy_package(Path(folder, "whole"), None), tests) != 0:
            return ["the named tests do not pass without a fault"]
        for number, fault in enumerate(faults, start=1):
            status = run_tests(copy_package(Path(folder, str(number)), fault), [fault.test])
            noticed = status == 1
            print(f"{number}/{len(faults)} {'noticed' if noticed else 'NOT NOTICED'}: {fault.module}: {fault.test}")
            if not noticed:
                problems.append(f"{fault.module}: {fault.right!r} -> {fault.wrong!r}: status {status} of {fault.test}")
            shutil.rmtree(Path(folder, str(number)))
    return problems


def main() -> int:
    """Print what was noticed and what was not; the exit status is 1 if anything was not."""
    parser = argparse.ArgumentParser(description="Check that the tests notice faults.")
    parser.add_argument("--only", default="", help="faults with this word in their module or test")
    word = parser.parse_args().only
    for name in ("pytest", "torch", "transformers", "diffusers", "datasets", "accelerate"):  # once, for all children
        __import__(name)
    import transformers.trainer  # noqa: F401

    faults = [fault for fault in FAULTS if word in f"{fault.module} {fault.test}"]
    problems = check(faults)
    print("\n".join(problems) or f"| R27 | {len(faults)} | {len(faults)} | faults, each noticed by its test |")
    return int(bool(problems))


if __name__ == "__main__":
    sys.exit(main())
