# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
r"""Evaluate any checkpoint in both directions, on any dataset with `image` and `text`:

    python examples/evaluate_itit.py --model checkpoints/emoji-scenes-64 --dataset data/emoji-scenes-64 \
        --split validation --num_samples 200
    python examples/evaluate_itit.py --model my-coco-model --preset itit --dataset dataset_coco.json --images coco \
        --inception_weights weights-inception-2015-12-05-6726825d.pth
    python examples/evaluate_itit.py --model my-cc3m-model --preset dataset --dataset "cc3m/*.tar" --num_samples 5000

Captions: CIDEr-D, BLEU, ROUGE-L and diversity without Java, and those of pycocoevalcap, METEOR and SPICE with them,
where it and Java are there (extra `eval`). Images: Frechet distance, precision and recall, density and coverage, on
the features of the preset; use of the codes; what stays the same over rounds of image and caption. With `--scorer`, a
dual encoder that the model was not rewarded by: CLIPScore of captions, beside that of the true ones, and of generated
images, and R-precision, among 100 prompts and among copies with one word changed. Every figure is written with its
protocol and sample into JSON, and a row for the model card beside it. Image i is generated from the seed plus i, so
that no figure depends on the size of a batch.
"""

from itit_hf.commands.evaluate import main

if __name__ == "__main__":
    main()
