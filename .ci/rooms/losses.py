"""First losses of examples/recipes/table2/row14.yaml on a checkout, to the bit.

    python losses.py CHECKOUT OUTPUT.json [--steps 20]

Runs train_itit.py of the checkout in this process, one thread, and keeps the loss of each micro-batch (as hex) and each
named loss. The world is a copy of data/emoji-scenes-64-noto, given by --world.
"""
import argparse
import json
import os
import sys
import tempfile

parser = argparse.ArgumentParser()
parser.add_argument("checkout")
parser.add_argument("output")
parser.add_argument("--steps", type=int, default=20)
parser.add_argument("--world", default="data/emoji-scenes-64-noto")
parser.add_argument("--recipe", default="table2/row14.yaml")
args = parser.parse_args()
args.output = os.path.abspath(args.output)
root = os.path.abspath(args.checkout)
os.environ |= {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
sys.path[:0] = [os.path.join(root, "src"), os.path.join(root, "examples")]
os.chdir(root)

import torch  # noqa: E402

torch.set_num_threads(1)
import itit_hf  # noqa: E402

if not os.path.abspath(itit_hf.__file__).startswith(root):
    sys.exit(f"wrong package: {itit_hf.__file__}")
import train_itit  # noqa: E402

Trainer = train_itit.ITITTrainer
found = []


class Recorded(Trainer):
    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        loss, losses = super().compute_loss(model, inputs, True, num_items_in_batch)
        if model.training:
            step = self.state.global_step + 1
            values = {name: float(value.detach()).hex() for name, value in losses.items()}
            found.append({"step": step, "loss": float(loss.detach()).hex(), "value": float(loss.detach()), "losses": values})
            print(step, found[-1]["value"], flush=True)
        return (loss, losses) if return_outputs else loss

    def evaluate(self, *args, **kwargs):
        raise KeyboardInterrupt


train_itit.ITITTrainer = Recorded
with tempfile.TemporaryDirectory() as out:
    options = ["--config", f"examples/recipes/{args.recipe}", "--output_dir", out, "--scenes_folder", args.world]
    options += ["--max_steps", str(args.steps), "--logging_steps", "1", "--sample_steps", "0", "--save_strategy", "no"]
    options += ["--report_to", "none", "--disable_tqdm", "true", "--use_cpu", "true"]
    try:
        train_itit.main(options)
    except KeyboardInterrupt:
        pass
with open(args.output, "w") as file:
    json.dump(found, file, indent=1)
print(f"{len(found)} micro-batches -> {args.output}")
