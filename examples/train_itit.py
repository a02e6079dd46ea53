# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
r"""Train ITIT on captioned images.

With no argument: builds the emoji scenes from pip-installed art if they are not there, trains the tiny model on two
CPU cores, then writes a pipeline folder and a grid of images:

    accelerate launch examples/train_itit.py

Interrupted? It goes on where it was:

    accelerate launch examples/train_itit.py --resume_from_checkpoint

On your own images (a folder with `metadata.jsonl` or `metadata.csv`, parquet files, webdataset archives or a Hub id;
columns `image` and `text`, or named by `--paired_columns image=photo text=alt`), with the committed frozen parts or
those of any pipeline folder (`--frozen_parts`); `--push_to_hub --hub_model_id NAME` uploads each checkpoint and, in
the end, the pipeline:

    accelerate launch examples/train_itit.py --paired_dataset path/to/images --output_dir out/mine

The paper's ITIT-B (its authors trained ITIT-H for 10.9 days on 512 TPUv3), on 64 devices:

    accelerate launch --config_file examples/accelerate_configs/multi_gpu.yaml --num_processes 64 \
        examples/train_itit.py --config examples/recipes/paper/base.yaml --image_tokenizer path/to/vqgan \
        --paired_dataset path/to/pairs --image_dataset path/to/images --text_dataset path/to/texts
"""

from itit_hf.commands.train import main

if __name__ == "__main__":
    main()
