# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""The protocol of `utils/benchmarks/benchmark.py`, on cases that cost nothing; its goals file speaks of cases that
exist."""

import ctypes
import json
import platform
import resource
from argparse import Namespace
from pathlib import Path

import pytest
import torch

import benchmark
import benchmark_engines
from benchmark_cases import (
    DROPS,
    OPTIMIZERS,
    SYNTHESES,
    TEXT_LENGTHS,
    Case,
    EndAfter,
    growth_cases,
    update_cases,
)
from benchmark_engines import (
    AMUSED_PEER,
    GENERATING,
    checkpoint_cases,
    compiled,
    engine_cases,
    file_mebibytes,
    int8_model,
    processor_facts,
)
from counting import counted
from itit_hf.decoding.sampling import SamplingSettings
from itit_hf.decoding.scheduling_itit import ITITScheduler
from itit_hf.models.modeling_itit import ITITForPreTraining
from itit_hf.training.optimization import Muon

from ..reliability.harness import run_in_child
from ..testing_utils import ONE_LAYER, tiny_config, tiny_pipeline

ENGINES = ("eager", "compiled")
GOALS = json.loads((Path(benchmark.__file__).parent / "benchmark_goals.json").read_text())
MEASURED = {
    "seconds": {"ours": [2.0, 3.0], "half of ours": [1.0, 1.0], "theirs": [4.0, 4.0]},
    "flops": {"ours": 6e9, "half of ours": 3e9, "theirs": 24e9},
    "saved_mib": {"t2i": 200.0, "t2i2t": 300.0},
    "file_mib": {"float32": 8.0, "int8": 2.0},
    "ceiling": 10.0,
}


def values(metric, of, to=None, batch_size=1):
    return benchmark.goal_values({"metric": metric, "of": of, "to": to or {}}, MEASURED, batch_size)


def test_a_ratio_is_taken_within_a_round():
    assert values("ratio", {"ours": 1}, {"theirs": 1}) == [0.5, 0.75]


def test_a_ratio_may_be_of_sums_and_of_parts():
    assert values("ratio", {"ours": 1, "half of ours": 2}, {"theirs": 1, "half of ours": -1}) == [4 / 3, 5 / 3]


def test_the_fastest_of_several_that_were_measured_counts_in_each_round():
    assert values("ratio", [{"nobody": 1}, {"ours": 1}, {"half of ours": 2.5}], [{"theirs": 1}]) == [0.5, 0.625]
    assert values("ratio", [{"nobody": 1}], {"theirs": 1}) is None


def test_files_have_no_rounds():
    assert values("ratio of files", {"int8": 1}, {"float32": 1}) == [0.25]
    assert values("ratio of files", {"int4": 1}, {"float32": 1}) is None


def test_a_ratio_to_flops_is_one_where_the_time_is_that_of_the_work():
    assert values("ratio to flops", {"ours": 1}, {"half of ours": 1}) == [1.0, 1.5]


def test_the_share_of_the_ceiling_counts_work_by_time():
    assert values("share of ceiling", {"ours": 1}) == [0.3, 0.2]


def test_rates_and_times_of_a_batch():
    assert values("a second", {"ours": 1}, batch_size=6) == [3.0, 2.0]
    assert values("milliseconds", {"ours": 1}) == [2000.0, 3000.0]


def test_saved_activations_are_summed():
    assert values("saved MiB", {"t2i": 1, "t2i2t": 1}) == [500.0]


def test_what_was_not_measured_has_no_value():
    assert values("ratio", {"ours": 1}, {"nobody": 1}) is None


def test_an_unknown_metric_is_named():
    with pytest.raises(ValueError, match="got 'beauty'"):
        values("beauty", {"ours": 1})


@pytest.mark.parametrize(
    ("bounds", "verdict"),
    [
        ({"at_most": 2.0, "stretch": 1.0}, "PASS"),
        ({"at_most": 2.0, "stretch": 1.5}, "PASS, stretch"),
        ({"at_most": 1.4, "stretch": 1.0}, "FAIL"),
        ({"at_least": 1.0, "stretch": 2.0}, "PASS"),
        ({"at_least": 1.6, "stretch": 2.0}, "FAIL"),
        ({"at_most": 2.0}, "PASS"),
    ],
)
def test_the_median_is_judged(bounds, verdict):
    assert benchmark.judge(bounds, [0.1, 1.5, 9.0]) == verdict


RATIO = {"what": "", "metric": "ratio", "at_most": 1, "stretch": 0}
WRITTEN_GOALS = [
    {"goal": "G1", "batch_size": 1, "of": {"ours": 1}, "to": {"theirs": 1}} | RATIO,
    {"goal": "G2", "batch_size": 4, "of": {"a": 1}, "to": {"b": 1}} | RATIO,
    {"goal": "G3", "what": "", "metric": "milliseconds", "batch_size": 1, "of": {"ours": 1}, "device": "cuda"},
]


def test_goals_of_another_device_are_left_out(tmp_path):
    path = tmp_path / "goals.json"
    path.write_text(json.dumps(WRITTEN_GOALS))
    assert [goal["goal"] for goal in benchmark.read_goals(str(path), "cpu")] == ["G1", "G2"]
    assert benchmark.read_goals(None, "cpu") == []


def test_goals_of_another_processor_are_left_out(tmp_path):
    path = tmp_path / "goals.json"
    goal = WRITTEN_GOALS[0]
    path.write_text(json.dumps([goal | {"only": {"int8 (VNNI)": answer}, "what": answer} for answer in ("yes", "no")]))
    assert [goal["what"] for goal in benchmark.read_goals(str(path), "cpu", {"int8 (VNNI)": "no"})] == ["no"]


def test_a_goal_whose_cases_were_not_measured_says_so():
    checked = benchmark.check_goals(WRITTEN_GOALS[:2], {"measured": {"1": MEASURED}})
    assert [goal["verdict"] for goal in checked] == ["PASS", "not measured"]
    assert len(benchmark.goal_lines(checked)) == 4


def test_only_what_goals_speak_of_is_timed_at_their_batch_size():
    assert benchmark.cases_of(WRITTEN_GOALS[:2]) == {1: {"ours", "theirs"}, 4: {"a", "b"}}


def test_each_round_times_each_case_and_starts_at_another(monkeypatch):
    order = []
    cases = [Case(name, lambda name=name: order.append(name), times=3.0) for name in "abc"]
    monkeypatch.setattr(benchmark, "Stopwatch", lambda device: lambda run: run() or 2.0)
    options = Namespace(device="cpu", rounds=2, warmup=0)
    assert benchmark.time_rounds(cases, options, "") == {name: [6.0, 6.0] for name in "abc"}
    assert "".join(order) == "abcbca"


def test_the_stopwatch_counts_cpu_time():
    assert 0.0 < benchmark.Stopwatch("cpu")(lambda: torch.randn(300, 300) @ torch.randn(300, 300)) < 10.0


def first_touches_of_another_block() -> int:
    """Pages of 400 MB that the system gives out anew after as much was freed."""
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        torch.zeros(100_000_000)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def touch_before_and_after():
    ctypes.CDLL(None).mallopt(-4, 2**16)  # M_MMAP_MAX as it was, whatever ran in this process before
    given_back = first_touches_of_another_block()
    assert given_back > 100  # even of 2 MiB each
    benchmark.keep_memory()
    assert first_touches_of_another_block() < given_back / 4  # a few are of Python, after a fork


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="memory of another library is not kept")
def test_memory_that_was_freed_is_kept():
    assert run_in_child(touch_before_and_after) == 0


def test_every_goal_speaks_of_cases_that_exist():
    known = {f"{what}, {engine}" for what in ("caption", "train pairs", "GIT", AMUSED_PEER) for engine in ENGINES}
    known |= {f"generate, {engine}" for engine in GENERATING}
    known |= {"checkpoint, as saved", "checkpoint, 24 guided steps", "float32", "int8"}
    known |= {f"train t2i2t, {name}" for name in SYNTHESES} | {"train pairs", "train i2t2i"}
    known |= {"tiny losses"} | {f"tiny update, {name}" for name in OPTIMIZERS}
    known |= {f"pass of {side} x {side} tokens" for side in (8, 16, 32)}
    known |= {"pass of 1 image", "pass of 4 images", "pass of 16 images"}
    known |= {f"generate {text}{drop}" for text in TEXT_LENGTHS for drop in DROPS}
    known |= {"caption", "aMUSEd's decoder"} | {"t2i", "i2t + i2i", "t2i2t", "i2t2i"}
    assert set().union(*map(benchmark.names_of, GOALS)) <= known


def test_the_goals_of_the_issue_are_all_there_once_for_each_processor():
    for answer in ("yes", "no"):
        facts = {"int8 (VNNI)": answer}
        goals = [goal["goal"] for goal in GOALS if goal.get("only", facts) == facts and "device" not in goal]
        assert goals == ["S1", "S2", "S2", "S3", "S3", "S4", "S4", "S5", "S5", "S6", *["S7"] * 4, "G10"]


def test_the_fast_paths_are_found_equal_and_a_wrong_one_is_named(monkeypatch):
    options = benchmark.parse([])
    benchmark.check_fast_paths(options)
    monkeypatch.setattr(benchmark, "_draws_agree", lambda device: False)
    with pytest.raises(RuntimeError, match="inverse of the distribution"):
        benchmark.check_fast_paths(options)


def test_the_smallest_run_reports_and_writes_every_round(tmp_path, caplog):
    path, goals = tmp_path / "out" / "benchmark.json", tmp_path / "goals.json"
    ratio = {"metric": "ratio", "of": {"train t2i": 1}, "to": {"train pairs": 1}, "at_most": 9, "stretch": 0}
    goals.write_text(json.dumps([{"goal": "G0", "what": "half of a pair", "batch_size": 1} | ratio]))
    with caplog.at_level("INFO"):
        status = benchmark.main(
            ["--preset", "tiny", "--groups", "train", "--anchors"]
            + ["--rounds", "2", "--json", str(path), "--check", str(goals)]
        )
    written = json.loads(path.read_text())
    rounds = {name: len(seconds) for name, seconds in written["measured"]["1"]["seconds"].items()}
    assert status == 0 and rounds == {"train t2i": 2, "train pairs": 2}
    assert written["goals"][0]["verdict"] == "PASS" and len(written["gemm"]) == 2
    assert "| G0 | 1 | half of a pair |" in caplog.text


def test_a_larger_image_and_a_larger_batch_are_longer_passes():
    cases = growth_cases(benchmark.parse(["--preset", "tiny"]), batch_size=1)
    sizes = {case.name: case.run().image_logits.shape[:2] for case in cases}
    sides = {f"pass of {side} x {side} tokens": (1, side * side) for side in (8, 16, 32)}
    assert sizes == sides | {f"pass of {n} image{'s' * (n > 1)}": (n, 256) for n in (1, 4, 16)}


def test_the_flops_of_a_pass_are_those_of_its_code():
    case = growth_cases(benchmark.parse(["--preset", "tiny"]), batch_size=1)[0]
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        assert case.flops == pytest.approx(counted(case.run), rel=0.03)


def test_an_update_is_its_losses_and_a_step(monkeypatch):
    steps = []
    for optimizer in (torch.optim.AdamW, Muon):
        monkeypatch.setattr(optimizer, "step", lambda self, name=optimizer.__name__: steps.append(name))
    losses, adamw, muon = update_cases(benchmark.parse([]), batch_size=1)
    taken = []
    for case in (losses, adamw, muon):
        steps.clear()
        case.run()
        taken.append(list(steps))
    assert [case.name for case in (losses, adamw, muon)] == ["tiny losses", "tiny update, AdamW", "tiny update, Muon"]
    assert taken == [[], ["AdamW"], ["Muon", "AdamW"]]


def test_a_caption_is_ended_after_so_many_words():
    end, scores = EndAfter(2, eos_token_id=1), torch.zeros(1, 3)
    assert [end(torch.zeros(1, length), scores).argmax().item() for length in (1, 2, 3)] == [0, 0, 1]


# Engines


def of_cases(*names: str) -> Namespace:
    return Namespace(**vars(benchmark.parse(["--preset", "tiny"])) | {"cases": names})


def test_only_models_that_are_asked_for_are_built(monkeypatch):
    built = []
    monkeypatch.setattr(benchmark_engines, "build_model", lambda options: built.append(options) or stub_model())
    cases = engine_cases(of_cases("caption, eager"), batch_size=1)
    assert [case.name for case in cases] == ["caption, eager"] and len(built) == 1


def stub_model():
    return ITITForPreTraining(tiny_config(**ONE_LAYER)).eval()


def test_an_engine_whose_library_is_missing_is_left_out(monkeypatch):
    monkeypatch.setattr(benchmark_engines, "find_spec", lambda name: None)
    options = benchmark.parse([])
    engines = [engine for engine in GENERATING if benchmark_engines._runs(engine, options)]
    assert engines[:2] == ["eager", "compiled"] and not [name for name in engines if "ONNX" in name]
    on_gpu = Namespace(**vars(options) | {"device": "cuda"})
    assert [engine for engine in GENERATING if benchmark_engines._runs(engine, on_gpu)] == ["eager", "compiled"]


def test_int8_is_of_the_linear_layers_and_near_the_model_that_stays_as_it_is():
    torch.manual_seed(0)
    model = stub_model()
    ids = torch.arange(16)[None]
    plain = model(image_token_ids=ids, logit_positions=ids).image_logits
    quantized = int8_model(model)
    linear = [module for module in quantized.modules() if isinstance(module, torch.ao.nn.quantized.dynamic.Linear)]
    assert len(linear) == sum(isinstance(module, torch.nn.Linear) for module in model.modules())
    assert torch.equal(model(image_token_ids=ids, logit_positions=ids).image_logits, plain)
    off = quantized(image_token_ids=ids, logit_positions=ids).image_logits - plain
    assert 0.0 < off.abs().max() < 0.1 * plain.abs().max()


def test_the_file_of_eight_bits_is_smaller():
    sizes = file_mebibytes(benchmark.parse(["--preset", "tiny"]))
    assert 0.2 * sizes["float32"] < sizes["int8"] < 0.8 * sizes["float32"]


def test_blocks_of_anchors_are_compiled_too():
    block = torch.nn.Linear(2, 2)
    other = torch.nn.Module()
    other.layer, other.head = torch.nn.ModuleList([block]), torch.nn.Linear(2, 2)
    compiled(other)
    assert block._compiled_call_impl is not None and other.head._compiled_call_impl is None
    ours = compiled(stub_model())
    are_compiled = [name for name, module in ours.named_modules() if module._compiled_call_impl is not None]
    assert are_compiled == ["model.layers.0", "text_decoder.layers.0", "image_decoder.layers.0"]


def test_the_checkpoint_is_called_as_it_is_saved_and_by_24_guided_steps(tmp_path, monkeypatch):
    pipe = tiny_pipeline(**ONE_LAYER)
    pipe.sampling = SamplingSettings(2)
    pipe.save_pretrained(tmp_path)
    own, guided = checkpoint_cases(Namespace(checkpoint=str(tmp_path), device="cpu"), batch_size=2)
    steps = []
    monkeypatch.setattr(ITITScheduler, "set_timesteps", lambda self, *settings: steps.append(settings) or take(self))

    def take(scheduler):
        raise StopIteration

    for case in (own, guided):
        with pytest.raises(StopIteration):
            case.run()
    assert [settings[0] for settings in steps] == [2, 24]


def test_the_processor_says_what_it_is_good_at():
    facts = processor_facts()
    assert facts["isa"] == torch.backends.cpu.get_cpu_capability()
    assert {facts["bfloat16"], facts["int8 (VNNI)"]} <= {"yes", "no"}


@pytest.mark.slow
def test_the_runtime_without_torch_generates_as_many_tokens():
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    (case,) = engine_cases(of_cases("generate, ONNX int8"), batch_size=1)
    assert case.run().shape == (1, 256)
