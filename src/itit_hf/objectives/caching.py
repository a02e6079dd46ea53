# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""What is computed once and serves several updates: synthetic samples, and features of texts.

Synthesis costs most of a cycle, and token ids are cheap to keep. A frozen text encoder gives the same for a caption in
each epoch.
"""

from collections import OrderedDict
from collections.abc import Callable

import torch


class SynthesisReplay:
    """Keeps each synthesis until it has served its updates.

    Args:
        num_updates (`int`): Updates that each synthesis serves; 1 keeps nothing.
    """

    def __init__(self, num_updates: int = 1):
        self.num_updates = num_updates
        self._kept: dict[tuple[str, int], dict[str, torch.Tensor]] = {}

    def __len__(self) -> int:
        return len(self._kept)

    def __call__(
        self, name: str, batch: dict[str, torch.Tensor], synthesise: Callable[[], dict[str, torch.Tensor]]
    ) -> dict[str, torch.Tensor]:
        """What was synthesised for this batch of a stream: anew at its first use, kept from then on.

        Args:
            name (`str`): Of the objective.
            batch (`dict`): `sample_index` of shape `(batch_size,)` and `replay_index` of shape `()`, see
                [`ITITObjectives`].
            synthesise (`Callable`): Called without arguments, returns tensors by name.

        Returns:
            `dict[str, torch.Tensor]`: What `synthesise` returned at the first use.

        Raises:
            ValueError: If a batch that was used before is not kept, as after resuming without the kept samples.
        """
        if self.num_updates == 1:
            return synthesise()
        replay_index = int(batch.get("replay_index", 0))
        key = (name, int(batch["sample_index"][0]))
        if replay_index == 0:
            self._kept[key] = synthesise()
        if key not in self._kept:
            raise ValueError(
                f"the synthetic samples of `{name}` at sample {key[1]} are not kept, but this is update "
                f"{replay_index + 1} of the {self.num_updates} that they serve: resume with the `synthesis_replay` of "
                "the checkpoint"
            )
        return self._kept[key] if replay_index + 1 < self.num_updates else self._kept.pop(key)

    def state_dict(self) -> dict[str, torch.Tensor]:
        """The kept samples by name, for safetensors; of shape `(batch_size, ...)` each."""
        return {
            f"{name}/{position}/{field}": value.contiguous()
            for (name, position), fields in self._kept.items()
            for field, value in fields.items()
        }

    def load_state_dict(self, state: dict[str, torch.Tensor]):
        """Take over what `state_dict` gave, tensors of shape `(batch_size, ...)`; what was kept before is dropped."""
        self._kept = {}
        for key, value in state.items():
            name, position, field = key.split("/")
            self._kept.setdefault((name, int(position)), {})[field] = value


class TextFeatureCache:
    """Reads texts with a frozen text encoder, and keeps the features of the last ones.

    A text that is kept was read by itself, without padding, so its features do not depend on the batch that it came in
    first; they differ from those of a padded batch by rounding.

    Args:
        text_encoder (`torch.nn.Module`): Of transformers.
        num_texts (`int`): Texts to keep at most, those read last, each `text_length * text_hidden_size` numbers on the
            encoder's device; 0 keeps none and reads each batch as it is.
    """

    def __init__(self, text_encoder: torch.nn.Module, num_texts: int = 0):
        self.text_encoder = text_encoder
        self.num_texts = num_texts
        self._kept: OrderedDict[tuple[int, ...], torch.Tensor] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    @torch.no_grad()
    def __call__(self, input_ids: torch.LongTensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Features of a batch.

        Args:
            input_ids (`torch.LongTensor` of shape `(batch_size, text_length)`): Texts, padded at their ends.
            attention_mask (`torch.Tensor` of shape `(batch_size, text_length)`): 1 for text, 0 for padding.

        Returns:
            `torch.FloatTensor` of shape `(batch_size, text_length, text_hidden_size)`; what stands at padding must not
            be looked at.
        """
        if self.num_texts == 0:
            return self.text_encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        lengths = attention_mask.sum(dim=-1).tolist()
        texts = [tuple(ids[:length]) for ids, length in zip(input_ids.tolist(), lengths, strict=True)]
        rows = [self._read(text, input_ids.device) for text in texts]  # (length, C) each
        features = rows[0].new_zeros(*input_ids.shape, rows[0].size(-1))  # (B, L, C)
        for row, read in enumerate(rows):
            features[row, : len(read)] = read
        return features

    def _read(self, text: tuple[int, ...], device: torch.device) -> torch.Tensor:
        if text not in self._kept:
            ids = torch.tensor([text], device=device)
            output = self.text_encoder(input_ids=ids, attention_mask=torch.ones_like(ids))
            self._kept[text] = output.last_hidden_state[0]
            if len(self._kept) > self.num_texts:
                self._kept.popitem(last=False)
        self._kept.move_to_end(text)
        return self._kept[text]
