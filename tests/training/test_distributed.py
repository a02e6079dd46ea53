# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""Two processes that train together do what one does alone."""

import os
import re
from pathlib import Path

import pytest
import torch
import torch.distributed
import yaml
from accelerate.state import PartialState
from accelerate.utils import DistributedType
from torch.distributed.tensor import DTensor
from torch.multiprocessing import ProcessRaisedException
from transformers import TrainerCallback

from itit_hf import ITITForPreTraining
from itit_hf.data.streams import MixedDataset, Stream

from ..examples.test_table2_recipes import OBJECTIVES_OF_ROW
from ..testing_utils import tiny_pipeline
from ..training_utils import FULL_CYCLE, launch, losses_of, make_trainer

ROOT = Path(__file__).parents[2]
OBJECTIVE_LISTS = sorted({tuple(names) for names in OBJECTIVES_OF_ROW.values()})
# Plain descent, each step of which is the gradient itself; nothing is clipped.
PLAIN = {"optim": "sgd", "learning_rate": 0.01, "max_grad_norm": 0.0}


class GradientRecorder(TrainerCallback):
    """Keeps the gradients of each step by the names of the parameters."""

    def __init__(self):
        self.steps = []

    def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
        trained = ((name, p) for name, p in model.named_parameters() if p.requires_grad)
        self.steps.append({name: p.grad.clone() for name, p in trained})


def first_two_steps(folder, objectives, batch_size):
    """Losses and gradients; it is in the second step that plain DDP complains of parameters without a gradient."""
    options = FULL_CYCLE | PLAIN | {"max_steps": 2, "objectives": list(objectives)}
    trainer = make_trainer(folder, per_device_train_batch_size=batch_size, **options)
    recorder = GradientRecorder()
    trainer.add_callback(recorder)
    trainer.train()
    return {"world": trainer.args.world_size, "losses": losses_of(trainer), "gradients": recorder.steps}


def first_two_steps_of_all_rows(folder):
    return {names: first_two_steps(folder, names, batch_size=4) for names in OBJECTIVE_LISTS}


@pytest.fixture(scope="module")
def rows_in_two_processes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rows")
    results = launch(first_two_steps_of_all_rows, folder, folder)
    return results, [(folder / f"stderr-{rank}.txt").read_text() for rank in range(2)]


@pytest.mark.parametrize("objectives", OBJECTIVE_LISTS, ids=" ".join)
def test_two_processes_have_the_gradients_of_one(rows_in_two_processes, objectives, tmp_path):
    first, second = (rows[objectives] for rows in rows_in_two_processes[0])
    alone = first_two_steps(tmp_path, objectives, batch_size=8)
    assert (first["world"], alone["world"]) == (2, 1)
    assert first["losses"] == pytest.approx(alone["losses"], abs=1e-5)
    for step, gradients in enumerate(alone["gradients"]):
        assert list(first["gradients"][step]) == list(gradients)
        for name, gradient in gradients.items():
            assert torch.equal(first["gradients"][step][name], second["gradients"][step][name]), name
            torch.testing.assert_close(first["gradients"][step][name], gradient, atol=1e-5, rtol=1e-4, msg=name)


def test_plain_ddp_has_nothing_to_warn_of(rows_in_two_processes):
    for said in rows_in_two_processes[1]:
        assert "examples/s" in said  # the progress of the image tokens: this is what the process said
        assert not re.search("unused|marked as ready|bucket", said), said


def tokens(rows, seed):
    """Images of random tokens, which the tiny model describes in different words."""
    generator = torch.Generator().manual_seed(seed)
    return [{"image_token_ids": ids.tolist()} for ids in torch.randint(23, (rows, 16), generator=generator)]


def sentences(rows):
    return [{"text": f"{'the ' * (i % 3)}red bus {'on a tree ' * (i % 2)}"} for i in range(rows)]


def train(folder, batch_size, sizes, **options):
    """Three steps of the full cycle on streams of the given sizes; captions end early, and not all at once."""
    pipe = tiny_pipeline()
    with torch.no_grad():
        pipe.model.text_decoder.project_features.weight.mul_(4.0)
        pipe.model.text_decoder.embed_tokens.weight[pipe.model.config.eos_token_id].mul_(1.1)
    options = FULL_CYCLE | PLAIN | {"max_steps": 3, "synthesis_max_new_tokens": 12} | options
    trainer = make_trainer(folder, pipe, per_device_train_batch_size=batch_size, **options)
    pairs = [ids | text for ids, text in zip(tokens(sizes["paired"], 0), sentences(sizes["paired"]), strict=True)]
    rows = {"paired": pairs, "image": tokens(sizes["image"], 1), "text": sentences(sizes["text"])}
    trainer.train_dataset = MixedDataset([Stream(name, rows[name]) for name in rows])
    lengths, say = [], trainer.objectives.caption_images

    def say_and_measure(model, image_token_ids):
        said = say(model, image_token_ids)
        lengths.append(said["input_ids"].size(1))
        return said

    trainer.objectives.caption_images = say_and_measure
    trainer.train()
    trainer.save_pipeline(str(folder / f"pipeline-{trainer.args.world_size}"))
    trainer.samples.log_samples()
    weights = [p.full_tensor() if isinstance(p, DTensor) else p for p in trainer.model.parameters()]
    return {
        "kind": trainer.accelerator.distributed_type,
        "losses": losses_of(trainer),
        "lengths": lengths,
        "weights": torch.cat([weight.detach().flatten() for weight in weights]),
    }


UNEVEN = {"paired": 9, "image": 1, "text": 3}


def test_streams_of_uneven_sizes_never_let_a_process_wait(tmp_path):
    first, second = launch(train, tmp_path, tmp_path, 2, UNEVEN)
    alone = train(tmp_path, 4, UNEVEN)
    assert first["losses"] == pytest.approx(alone["losses"], abs=1e-5)
    assert torch.equal(first["weights"], second["weights"])
    torch.testing.assert_close(first["weights"], alone["weights"], atol=1e-5, rtol=1e-4)


def train_sharded(folder, batch_size, sizes, options):
    """As `train`; accelerate shards on GPUs only, so it is told that the CPU is one."""
    os.environ["ACCELERATE_TORCH_DEVICE"] = "cpu"
    PartialState._prepare_backend = lambda *_: ("gloo", DistributedType.MULTI_GPU)
    return train(folder, batch_size, sizes, use_cpu=False, fsdp=True, **options)


# Muon orthogonalises in bfloat16, which makes more of sums taken in another order.
@pytest.mark.parametrize(
    ("optimizer", "tolerance"), [({}, 1e-5), ({"muon_learning_rate": 0.02}, 1e-3)], ids=["sgd", "muon"]
)
def test_sharded_processes_train_as_one(tmp_path, optimizer, tolerance):
    with open(ROOT / "examples" / "accelerate_configs" / "fsdp2.yaml") as file:
        options = optimizer | {"fsdp_config": yaml.safe_load(file)["fsdp_config"]}
    sizes = {"paired": 24, "image": 24, "text": 24}
    first, second = launch(train_sharded, tmp_path, tmp_path, 2, sizes, options)
    alone = train(tmp_path, 4, sizes, **optimizer)
    assert first["kind"] == DistributedType.FSDP
    assert first["lengths"] != second["lengths"], "the captions of both processes are equally long: nothing is shown"
    # Losses of about 20: 1e-5 is a few units in the last place, sums being taken in another order.
    assert first["losses"] == pytest.approx(alone["losses"], abs=tolerance)
    assert torch.equal(first["weights"], second["weights"])
    torch.testing.assert_close(first["weights"], alone["weights"], atol=4 * tolerance, rtol=1e-4)
    folders = [tmp_path / f"pipeline-{processes}" / "model" for processes in (1, 2)]
    theirs, ours = (ITITForPreTraining.from_pretrained(folder).state_dict() for folder in folders)
    torch.testing.assert_close(ours, theirs, atol=4 * tolerance, rtol=1e-4)
    assert len(list((tmp_path / "samples").iterdir())) == 1


@pytest.mark.parametrize(
    "refused",
    [
        {"ema_decay": 0.9},
        {"optim": "adafactor"},
        {"fsdp_config": {"fsdp_reshard_after_forward": True}},
    ],
    ids=str,
)
def test_what_sharded_weights_cannot_do_is_refused(tmp_path, refused):
    options = {"fsdp_config": {"fsdp_reshard_after_forward": False}} | refused
    with pytest.raises(ProcessRaisedException, match="must (not )?be .*when FSDP shards the weights"):
        launch(train_sharded, tmp_path, tmp_path, 2, {"paired": 4, "image": 4, "text": 4}, options)
