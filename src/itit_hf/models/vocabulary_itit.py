# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""The rows of the text decoder's embedding: tokens that may be generated, then spare ones for [BOS] and the
placeholder."""

from torch import nn


class TextVocabularyMixin:
    """`resize_token_embeddings` of the models with a text decoder."""

    def resize_token_embeddings(
        self,
        new_num_tokens: int | None = None,
        pad_to_multiple_of: int | None = None,
        mean_resizing: bool = True,
    ) -> nn.Embedding:
        """Make room for the tokens that were added to a tokenizer; what was generated before is generated as before.

        The table has two rows more than tokens at least, for `bos_token_id` and `image_token_id`. These stay where
        they are, unless a token takes their place; the start of a caption takes its embedding along.

        Args:
            new_num_tokens (`int`, *optional*): Tokens that may be generated, `len(tokenizer)`; as many as now by
                default.
            pad_to_multiple_of (`int`, *optional*): The number of rows becomes a multiple of this.
            mean_resizing (`bool`, *optional*, defaults to `True`): As in transformers: new tokens start near the mean.

        Returns:
            `nn.Embedding`: The table, of shape `(vocab_size, decoder_hidden_size)`.

        Raises:
            ValueError: If a number is below 1.
        """
        config = self.config
        for name, number in (("new_num_tokens", new_num_tokens), ("pad_to_multiple_of", pad_to_multiple_of)):
            if number is not None and number < 1:
                raise ValueError(f"`{name}` must be at least 1, got {number}")
        num_before = config.num_text_tokens
        bos_token_id = config.bos_token_id
        image_token_id = config.image_token_id
        num_tokens = new_num_tokens or num_before
        multiple = pad_to_multiple_of or 1
        num_rows = num_tokens + 2 if num_tokens < num_before else max(config.vocab_size, num_tokens + 2)
        num_rows = -(-num_rows // multiple) * multiple
        start = self.get_input_embeddings().weight[bos_token_id].detach().clone()
        if num_tokens != num_before:  # rows that were spare begin like other new ones
            super().resize_token_embeddings(min(num_tokens, num_before))  # type: ignore[misc]  # of transformers
        embeddings = super().resize_token_embeddings(num_rows, mean_resizing=mean_resizing)  # type: ignore[misc]
        if not num_tokens <= image_token_id < num_rows:
            image_token_id = num_rows - 1
        if bos_token_id >= num_before and not num_tokens <= bos_token_id < num_rows - 1:
            bos_token_id = num_tokens
        config.num_text_tokens = num_tokens
        config.bos_token_id = bos_token_id
        config.image_token_id = image_token_id
        if self.generation_config.bos_token_id is not None:
            self.generation_config.bos_token_id = bos_token_id
        embeddings.weight.data[bos_token_id] = start
        return embeddings


class WithoutTextMixin:
    """`resize_token_embeddings` of the models without a text decoder."""

    def resize_token_embeddings(
        self,
        new_num_tokens: int | None = None,
        pad_to_multiple_of: int | None = None,
        mean_resizing: bool = True,
    ) -> nn.Embedding:
        """Refused: only a text decoder has an embedding of text tokens, see [`TextVocabularyMixin`].

        Args:
            new_num_tokens (`int`, *optional*): As there.
            pad_to_multiple_of (`int`, *optional*): As there.
            mean_resizing (`bool`, *optional*, defaults to `True`): As there.

        Raises:
            ValueError: Always.
        """
        raise ValueError(f"{type(self).__name__} has no text decoder, and so no embedding of text tokens to resize")
