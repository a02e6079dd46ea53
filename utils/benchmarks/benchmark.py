# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
r"""How fast ITIT generates, captions and trains, beside others of its kind; on two quiet cores it takes 15 minutes:

    python utils/benchmarks/benchmark.py --json out/benchmark.json --check utils/benchmarks/benchmark_goals.json

Everything is built from configurations with random weights and timed in one process, as absolute times on a shared
machine tell little: a round times every case of a group once, and the next round starts at another case. On a CPU the
clock is the CPU time of one thread. What is compared is the ratio of two cases within a round, and its lowest, median
and highest value over the rounds. Before anything is timed, the fast paths are held against the plain ones.

On a GPU, with CUDA graphs:

    python utils/benchmarks/benchmark.py --device cuda --dtype bfloat16 --warmup 3 --compile reduce-overhead \
        --json out/benchmark.json --check utils/benchmarks/benchmark_goals.json

Generating, captioning, training and growth are groups that follow one another, so that no more than one group's models
are in memory. `benchmark_goals.json` tells which cases are divided by which, at which batch size; with it, nothing
else is timed. The exit status is 1 if a goal is missed. Without `--check` every case is timed, which takes longer.
"""

import ctypes
import gc
import json
import logging
import os
import platform
import statistics
import sys
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import diffusers
import torch
import transformers
from torch.nn import functional as F
from tqdm import tqdm

import flops
from benchmark_cases import AMUSED, GROUPS, Case, build_config, build_model, build_objectives, loss_function
from benchmark_engines import checkpoint_cases, engine_cases, file_mebibytes, processor_facts
from counting import BYTES_PER_NUMBER, numbers_kept
from flops import GIGA, MEBI, Workload
from itit_hf.masking import masked_positions, random_mask
from itit_hf.models.types_itit import ImageMask, TextCondition
from itit_hf.rng import sample_categorical

logger = logging.getLogger(__name__)

ANCHORS = (*AMUSED, "GIT", "BLIP")
NOISY = 0.15  # share by which the two measurements of the ceiling may differ
GEMM_ROWS = {"cpu": (64, 192, 320, 2560), "cuda": (320, 2560, 8192, 32768)}
CEILING_ROWS = {"cpu": 320, "cuda": 32768}
GEMM_SHAPES = {"cpu": (768, 3072), "cuda": (4096, 4096)}
GEMM_REPEATS = 7
PROMISES = ("at_most", "at_least")
ALL_GROUPS = GROUPS | {"engines": engine_cases, "checkpoint": checkpoint_cases}
MEASURES = ("memory", "files")  # what is no time
# M_TRIM_THRESHOLD, M_TOP_PAD and M_MMAP_MAX of glibc's mallopt: nothing freed is given back, no block stands alone.
MEMORY_IS_KEPT = {-1: 2**31 - 1, -2: 2**28, -4: 0}


def keep_memory():
    """Keep what is freed, where glibc is what gives memory out.

    A page that is touched first costs a microsecond, and ten on a virtual machine: where gradients of 800 MiB were
    given back, the case that comes next would pay for it, and which one that is changes from round to round.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if platform.libc_ver()[0] == "glibc" else None
    for parameter, value in MEMORY_IS_KEPT.items() if mallopt is not None else ():
        mallopt(parameter, value)


class Stopwatch:
    """Seconds of a call: CPU time, or on a GPU the time between two events."""

    def __init__(self, device: str):
        self.device = device

    def __call__(self, run: Callable[[], object]) -> float:
        """Seconds that one call takes."""
        if self.device == "cpu":
            start = time.process_time()
            run()
            return time.process_time() - start
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        run()
        end.record()
        torch.cuda.synchronize()
        return start.elapsed_time(end) / 1000


# Before timing


def check_fast_paths(options: Namespace):
    """Hold each fast path against the plain one, on a small model.

    Raises:
        RuntimeError: If one gives other results; then its time means nothing.
    """
    small = Namespace(**vars(options) | {"preset": "tiny", "dtype": torch.float32})
    model = build_model(small)
    for name, same in (
        ("beams that share a prefix", _beams_agree(model)),
        ("logits at masked positions only", _logits_agree(model)),
        ("texts without their padding", _trimmed_texts_agree(model)),
        ("draws by the inverse of the distribution function", _draws_agree(options.device)),
    ):
        if not same:
            raise RuntimeError(f"{name}: the result is not that of the plain path")


def _image(model) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(model.config.codebook_size, (2, model.config.num_image_tokens), generator=generator)
    return ids.to(model.device)


def _beams_agree(model) -> bool:
    inputs = {"image_token_ids": _image(model), "num_beams": 4, "max_new_tokens": 6, "do_sample": False}
    plain = model.generate(**inputs, cache_implementation="static", disable_compile=True)
    return torch.equal(model.generate(**inputs), plain)


@torch.no_grad()
def _logits_agree(model) -> bool:
    ids = _image(model)
    mask = random_mask(torch.tensor([0.5, 0.8]), ids.size(1), torch.Generator().manual_seed(0)).to(ids.device)
    positions, _ = masked_positions(mask)
    inputs = {"image_token_ids": ids, "image_mask": ImageMask(mask)}
    every = model(**inputs, logit_positions=torch.arange(ids.size(1), device=ids.device).expand_as(ids)).image_logits
    some = model(**inputs, logit_positions=positions).image_logits
    return torch.allclose(some, every.gather(1, positions[..., None].expand_as(some)), atol=1e-3)


@torch.no_grad()
def _trimmed_texts_agree(model) -> bool:
    ids = _image(model)
    text = torch.randn(2, 12, model.config.text_hidden_size, device=ids.device)
    inputs = {"image_token_ids": ids, "logit_positions": torch.arange(8, device=ids.device).expand(2, -1)}
    mask = (torch.arange(12, device=ids.device) < 5).expand(2, -1)
    padded = model(**inputs, text_condition=TextCondition(text, mask)).image_logits
    return torch.allclose(padded, model(**inputs, text_condition=TextCondition(text[:, :5])).image_logits, atol=1e-3)


def _draws_agree(device: str) -> bool:
    probs = torch.tensor([0.5, 0.2, 0.15, 0.1, 0.05], device=device)
    num_draws = 200_000
    uniform = torch.rand(num_draws, generator=torch.Generator().manual_seed(0)).to(device)
    drawn = sample_categorical(probs.expand(num_draws, -1), uniform)
    return torch.allclose(drawn.bincount(minlength=5) / num_draws, probs, atol=0.005)


# Timing


def gemm_rates(options: Namespace) -> dict[int, float]:
    """GFLOP a second of `x @ weight.T`, the median of `GEMM_REPEATS`, by the number of rows of x."""
    num_inputs, num_outputs = GEMM_SHAPES[options.device]
    like = {"device": options.device, "dtype": options.dtype}
    weight = torch.randn(num_outputs, num_inputs, **like)
    rates = {}
    clock = Stopwatch(options.device)
    for rows in GEMM_ROWS[options.device]:
        x = torch.randn(rows, num_inputs, **like)
        work = flops.linear(rows, num_inputs, num_outputs)
        calls = max(1, int(2e9 / work))  # long enough for the clock

        def run(x=x, calls=calls):
            for _ in range(calls):
                F.linear(x, weight)

        seconds = statistics.median(clock(run) for _ in range(GEMM_REPEATS))
        rates[rows] = calls * work / seconds / GIGA
    return rates


def time_rounds(cases: Sequence[Case], options: Namespace, description: str) -> dict[str, list[float]]:
    """Seconds of each case in each round, by name; every round starts at another case."""
    clock = Stopwatch(options.device)
    seconds = {case.name: [] for case in cases}
    for _ in range(options.warmup):
        for case in cases:
            case.run()
    with tqdm(total=len(cases) * options.rounds, desc=description, disable=None) as progress_bar:
        for number in range(options.rounds):
            start = number % len(cases)
            for case in (*cases[start:], *cases[:start]):
                seconds[case.name].append(case.times * clock(case.run))
                progress_bar.update()
    return seconds


def saved_mebibytes(options: Namespace) -> dict[str, float]:
    """MiB that one sample of each loss keeps for its backward pass, without dropout."""
    model = build_model(options).to(torch.float32).eval()
    saved = {}
    work = Workload(build_config(options), num_inference_steps=1, guidance_scale=1.0, num_new_tokens=64)
    names = {"t2i": ("t2i",), "i2t + i2i": ("i2t", "i2i"), "t2i2t": ("t2i2t",), "i2t2i": ("i2t2i",)}
    for name, objectives in names.items():
        losses = build_objectives(work, objectives, options.device)
        kept = numbers_kept(loss_function(model, losses, work, options.device), model, losses.text_encoder)
        saved[name] = kept * BYTES_PER_NUMBER / MEBI
    return saved


# Goals


def spread(values: Sequence[float]) -> tuple[float, float, float]:
    """Lowest, median and highest."""
    return min(values), statistics.median(values), max(values)


def _weighted(weights: dict[str, float], seconds: dict[str, list[float]]) -> list[float]:
    """A sum of cases, round by round."""
    rounds = zip(*(seconds[name] for name in weights), strict=True)
    return [sum(w * s for w, s in zip(weights.values(), one, strict=True)) for one in rounds]


def _best(sums: dict[str, float] | Sequence[dict[str, float]], seconds: dict[str, list[float]]) -> list[float] | None:
    """A sum of cases round by round, or the fastest of several in each round, of those that were measured."""
    if isinstance(sums, dict):
        sums = [sums]
    known = [_weighted(one, seconds) for one in sums if all(name in seconds for name in one)]
    return [min(of_round) for of_round in zip(*known, strict=True)] if known else None


def goal_values(goal: dict, measured: dict, batch_size: int) -> list[float] | None:
    """What a goal speaks of, in each round; `None` if its cases were not measured.

    Args:
        goal (`dict`): An entry of the goals file: `metric`, `of` and, for ratios, `to`; these are sums of cases, each
            with a weight. For a ratio either may be a list of sums: the fastest that was measured counts.
        measured (`dict`): `seconds` and `flops` of each case at this batch size, `saved_mib`, `file_mib`, `ceiling`.
        batch_size (`int`): Samples of a case.

    Raises:
        ValueError: If the metric is unknown.
    """
    metric = goal["metric"]
    of = goal["of"]
    to = goal.get("to", {})
    if metric == "saved MiB":
        saved = measured["saved_mib"]
        return None if not saved else [sum(weight * saved[name] for name, weight in of.items())]
    if metric == "ratio of files":
        sizes = {name: [size] for name, size in measured["file_mib"].items()}
        small, whole = _best(of, sizes), _best(to, sizes)
        return small and whole and [small[0] / whole[0]]
    if metric == "ratio":
        ours, theirs = _best(of, measured["seconds"]), _best(to, measured["seconds"])
        return ours and theirs and [one / other for one, other in zip(ours, theirs, strict=True)]
    if any(name not in measured["seconds"] for name in (*of, *to)):
        return None
    seconds = _weighted(of, measured["seconds"])
    if metric == "milliseconds":
        return [1000 * value for value in seconds]
    if metric == "a second":
        return [batch_size / value for value in seconds]
    work = {name: measured["flops"].get(name) for name in (*of, *to)}
    if metric == "share of ceiling":
        total = sum(weight * work[name] for name, weight in of.items())
        return [total / value / GIGA / measured["ceiling"] for value in seconds]
    if metric != "ratio to flops":
        raise ValueError(f"`metric` of a goal must be a ratio, a share, a rate or a time, got {metric!r}")
    ratios = [value / other for value, other in zip(seconds, _weighted(to, measured["seconds"]), strict=True)]
    ideal, other = (sum(weight * work[name] for name, weight in side.items()) for side in (of, to))
    return [ratio / (ideal / other) for ratio in ratios]


def judge(goal: dict, values: Sequence[float]) -> str:
    """`"PASS"` or `"FAIL"` of the median, with `", stretch"` where there is a stretch that is reached too."""
    (promise,) = (name for name in PROMISES if name in goal)
    median = statistics.median(values)

    def reached(bound: float) -> bool:
        return median <= bound if promise == "at_most" else median >= bound

    if not reached(goal[promise]):
        return "FAIL"
    return "PASS, stretch" if "stretch" in goal and reached(goal["stretch"]) else "PASS"


def read_goals(path: str | None, device: str, facts: Mapping[str, str] | None = None) -> list[dict]:
    """The goals of a file that speak of this device, and of a processor like this one; none without a file.

    Args:
        path (`str`, *optional*): Of the file.
        device (`str`): `"cpu"` or `"cuda"`.
        facts (`Mapping`, *optional*): See [`processor_facts`]; goals with `only` speak of processors of which it is
            true.

    Returns:
        `list[dict]`.
    """
    goals = json.loads(Path(path).read_text(encoding="utf-8")) if path else []
    facts = {} if facts is None else facts
    return [
        goal for goal in goals if goal.get("device", "cpu") == device and goal.get("only", {}).items() <= facts.items()
    ]


def names_of(goal: dict) -> set[str]:
    """Names of the cases, losses or files that a goal speaks of."""
    sides = [goal["of"], goal.get("to", {})]
    sums = [one for side in sides for one in ([side] if isinstance(side, dict) else side)]
    return {name for one in sums for name in one}


def cases_of(goals: Sequence[dict]) -> dict[int, set[str]]:
    """Names of the cases that goals speak of, by batch size."""
    names: dict[int, set[str]] = {}
    for goal in goals:
        names.setdefault(goal["batch_size"], set()).update(names_of(goal))
    return names


def check_goals(goals: Sequence[dict], results: dict) -> list[dict]:
    """Each goal with what was measured and the verdict."""
    checked = []
    for goal in goals:
        measured = results["measured"].get(str(goal["batch_size"]))
        values = measured and goal_values(goal, measured, goal["batch_size"])
        verdict = judge(goal, values) if values else "not measured"
        checked.append(goal | {"values": values or None, "verdict": verdict})
    return checked


# Report


def case_lines(results: dict) -> list[str]:
    """A table of every case: seconds, GFLOP, rate and share of the ceiling."""
    lines = ["| batch | case | seconds, min / median / max | GFLOP | GFLOP/s | of ceiling |", "|---" * 6 + "|"]
    for batch_size, measured in results["measured"].items():
        for name, seconds in measured["seconds"].items():
            low, median, high = spread(seconds)
            work = measured["flops"].get(name)
            rate = ("", "", "")
            if work:
                rate = (f"{work / GIGA:.0f}", f"{work / GIGA / median:.1f}")
                rate = (*rate, f"{work / GIGA / median / measured['ceiling']:.2f}")
            lines.append(f"| {batch_size} | {name} | {low:.3f} / {median:.3f} / {high:.3f} | {' | '.join(rate)} |")
    return lines


def goal_lines(checked: Sequence[dict]) -> list[str]:
    """A table of every goal."""
    lines = ["| goal | batch | what | min / median / max | bound | |", "|---" * 6 + "|"]
    for goal in checked:
        (promise,) = (name for name in PROMISES if name in goal)
        values = " / ".join(f"{value:.3g}" for value in spread(goal["values"])) if goal["values"] else ""
        bound = f"{promise.replace('_', ' ')} {goal[promise]}"
        row = (goal["goal"], goal["batch_size"], goal["what"], values, bound, goal["verdict"])
        lines.append("| " + " | ".join(map(str, row)) + " |")
    return lines


def environment(options: Namespace) -> dict:
    """Versions, hardware and load."""
    processor = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        models = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
        processor = models[0].split(":")[1].strip() if models else processor
    return processor_facts() | {
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "diffusers": diffusers.__version__,
        "processor": processor if options.device == "cpu" else torch.cuda.get_device_name(),
        "threads": torch.get_num_threads(),
        "load": os.getloadavg(),
    }


def _is_asked(measure: str, metric: str, options: Namespace, goals: Sequence[dict]) -> bool:
    """Whether something besides times is to be measured: by its group, and where there are goals by one of them."""
    return measure in options.groups and (not goals or any(goal["metric"] == metric for goal in goals))


def run_groups(options: Namespace, goals: Sequence[dict]) -> dict[str, dict]:
    """Time the groups at each batch size, only what the goals speak of if there are goals; what a group built is let
    go before the next one."""
    saved = saved_mebibytes(options) if _is_asked("memory", "saved MiB", options, goals) else {}
    files = file_mebibytes(options) if _is_asked("files", "ratio of files", options, goals) else {}
    of_goals = cases_of(goals)
    measured = {}
    for batch_size in options.batch_sizes or sorted(of_goals) or [1]:
        one = measured[str(batch_size)] = {"seconds": {}, "flops": {}, "saved_mib": saved, "file_mib": files}
        wanted = options.cases or of_goals.get(batch_size, ())
        # Models that nothing is asked of are not built: it takes longer than many a case.
        anchors = [anchor for anchor in options.anchors if not wanted or any(anchor in name for name in wanted)]
        asked = Namespace(**vars(options) | {"anchors": anchors, "cases": wanted})
        for group in (name for name in ALL_GROUPS if name in options.groups):
            cases = ALL_GROUPS[group](asked, batch_size)
            if wanted:
                cases = [case for case in cases if case.name in wanted]
            if not cases:
                continue
            one["seconds"] |= time_rounds(cases, options, f"{group}, batch {batch_size}")
            one["flops"] |= {case.name: case.flops for case in cases if case.flops}
            del cases
            gc.collect()
    return measured


def parse(arguments: list[str] | None) -> Namespace:
    """The command line; `dtype` as torch's."""
    parser = ArgumentParser(description="Speed of ITIT beside others, see the head of this file.")
    names = [*ALL_GROUPS, *MEASURES]
    parser.add_argument("--groups", nargs="+", choices=names, default=names)
    parser.add_argument("--cases", nargs="+", help="Only these; by default those of the goals, without goals all.")
    parser.add_argument("--preset", default="base", help="Size of ITIT; goals speak of the base one.")
    parser.add_argument("--checkpoint", default="checkpoints/emoji-scenes-64", help="Pipeline of the goal S1.")
    parser.add_argument("--anchors", nargs="*", choices=ANCHORS, default=list(ANCHORS))
    parser.add_argument("--anchor_steps", type=int, default=2, help="Steps timed where each step costs the same.")
    parser.add_argument("--batch_sizes", nargs="+", type=int, help="By default those of the goals, without goals 1.")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument(
        "--compile", choices=["default", "reduce-overhead", "max-autotune"], help="Mode of compilation."
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--warmup", type=int, default=1, help="Rounds that are not timed; 2 or more when compiling.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", help="Where to write every round.")
    parser.add_argument("--check", help="Goals file.")
    options = parser.parse_args(arguments)
    options.dtype = getattr(torch, options.dtype)
    return options


def main(arguments: list[str] | None = None) -> int:
    """Measure, report, and judge; returns the exit status."""
    options = parse(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    transformers.logging.set_verbosity_error()
    diffusers.logging.set_verbosity_error()
    torch.set_num_threads(options.threads)
    keep_memory()
    try:
        check_fast_paths(options)
    except RuntimeError as error:
        logger.error(error)
        return 2
    results = {"environment": environment(options), "gemm": [gemm_rates(options)]}
    logger.info(json.dumps(results["environment"]))
    goals = read_goals(options.check, options.device, processor_facts())
    results["measured"] = run_groups(options, goals)
    results["gemm"].append(gemm_rates(options))
    results["load after"] = os.getloadavg()
    rows = CEILING_ROWS[options.device]
    first, last = (rates[rows] for rates in results["gemm"])
    for measured in results["measured"].values():
        measured["ceiling"] = (first + last) / 2
    noisy = " (noisy)" if abs(first - last) > NOISY * max(first, last) else ""
    logger.info(f"GEMM of {rows} rows: {first:.0f} GFLOP/s before, {last:.0f} after{noisy}")
    logger.info("\n".join(case_lines(results)))
    results["goals"] = check_goals(goals, results)
    if goals:
        logger.info("\n".join(goal_lines(results["goals"])))
        verdicts = [goal["verdict"].partition(",")[0] for goal in results["goals"]]
        counts = {verdict: verdicts.count(verdict) for verdict in dict.fromkeys(verdicts)}
        logger.info(", ".join(f"{count} {verdict}" for verdict, count in counts.items()))
    if options.json:
        Path(options.json).parent.mkdir(parents=True, exist_ok=True)
        Path(options.json).write_text(json.dumps(results, indent=1))
    return int(any(goal["verdict"] == "FAIL" for goal in results["goals"]))


if __name__ == "__main__":
    sys.exit(main())
