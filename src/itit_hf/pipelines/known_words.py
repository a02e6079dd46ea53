# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""Words of a prompt that no training text had: they are said once, and the prompt is answered all the same.

A checkpoint knows the content words of its training texts, `ITITConfig.known_words`. What counts as the same word is
simple and works for any script with spaces: the exact form, in lower case and NFC. Scripts without spaces have no
words that could be told apart here, and are never named.
"""

import re
import threading
import unicodedata
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from transformers.utils import logging

logger = logging.get_logger(__name__)

MAX_WARNINGS = 10  # of one model: an evaluation of thousands of prompts is no place to name each word
MAX_NAMED = 10  # words in one warning
MAX_WORD_LENGTH = 40  # characters; what is longer is an address or a hash

# Runs of what is no space, digit, punctuation mark or symbol, so that letters keep the marks that some scripts write
# beside them; an apostrophe may stand inside.
_LETTERS = (
    r"[^\s\x00-@\[-`{-\xa9\xab-\xb4\xb6-\xb9\xbb-\xbf\xd7\xf7\u02c2-\u02df\u055a-\u055f\u0589\u05be\u05c0\u05c3"
    r"\u060c\u061b\u061f\u066a-\u066d\u06d4\u0964\u0965\u2000-\u2bff\u3000-\u3004\u3007-\u3030\ufe00-\ufe0f"
    r"\ufe30-\ufe6f\uff00-\uff20\uff3b-\uff40\uff5b-\uff65\U0001f000-\U0001ffff]"
)
_WORD = re.compile(rf"{_LETTERS}+(?:'{_LETTERS}+)*")
# Thai, Lao, Tibetan, Burmese, Khmer, kana, and the characters of Chinese.
_WITHOUT_SPACES = re.compile(
    r"[\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff\u3005\u3006\u3031-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff"
    r"\uf900-\ufaff\uff66-\uff9d\U00020000-\U0003ffff]"
)
_CONTRACTIONS = ("n't", "'ll", "'re", "'ve", "'m", "'d")
# Articles, pronouns, prepositions, conjunctions, adverbs of place and degree, forms of the commonest verbs.
_FUNCTION_WORDS = """
a an the this that these those it its itself he him his she her hers they them their theirs we us our ours you
your yours i me my mine one ones who whom whose which what some any each every all both either neither none no
other others another such same own of in on at by to from into onto out off over under above below beneath
beside besides between behind before after near next with without within inside outside around about across
along through against among upon up down and or but nor so yet if then than as while when where because though
although until since during for per via there here very too also just only not more most less least much many
few several quite rather again still is are was were be been being am has have had having do does did doing can
could will would shall should may might must let
"""
STOP_WORDS = frozenset(_FUNCTION_WORDS.split())


def content_words(text: str) -> Iterator[str]:
    """The words of a text that say what it is about, in their order.

    Args:
        text (`str`): In any language. One letter of an alphabet is no word.

    Yields:
        `str`: In lower case and NFC, without an English possessive.
    """
    text = unicodedata.normalize("NFC", text.replace("\u2019", "'").lower())
    for word in _WORD.findall(text):
        word = word.removesuffix("'s")
        is_word = 1 < len(word) <= MAX_WORD_LENGTH and any(map(str.isalpha, word))
        is_content = word not in STOP_WORDS and not word.endswith(_CONTRACTIONS)
        if is_word and is_content and not _WITHOUT_SPACES.search(word):
            yield word


class _Warnings:
    """What was said of one model: pipelines that share it say nothing twice."""

    def __init__(self):
        self.words: set[str] = set()
        self.number = 0


_SAID: weakref.WeakKeyDictionary[Any, _Warnings] = weakref.WeakKeyDictionary()
_LOCK = threading.Lock()


def new_words(model, words: Sequence[str]) -> tuple[list[str], bool]:
    """Which words are named in a warning about a model, if there is to be one.

    Args:
        model (`torch.nn.Module`): Which does not know them.
        words (`Sequence[str]`): The words.

    Returns:
        `(words, is_last)`: Those that were not named before, and none once there were `MAX_WARNINGS` warnings; and
        whether this is the last one.
    """
    with _LOCK:
        said = _SAID.setdefault(model, _Warnings())
        fresh = [word for word in words if word not in said.words]
        if not fresh or said.number == MAX_WARNINGS:
            return [], False
        said.words.update(fresh)
        said.number += 1
        return fresh, said.number == MAX_WARNINGS


class KnownWordsMixin:
    """What [`ITITPipeline`] says of words that its checkpoint was not trained on."""

    # Of [`ITITPipeline`] and [`LoraMixin`].
    model: Any
    get_list_adapters: Callable[[], list[str]]

    def unknown_words(self, prompt: str | Sequence[str]) -> list[str]:
        """The content words that no training text had, each once, in their order.

        Args:
            prompt (`str` or `Sequence[str]`): What is to be generated.

        Returns:
            `list[str]`: Empty if the checkpoint has no list of its words, or an adapter is loaded, which may have been
            taught any.
        """
        known_words = None if self.model is None else self.model.config.known_words
        if known_words is None or self.get_list_adapters():
            return []
        known = set(known_words.split())
        texts = [prompt] if isinstance(prompt, str) else prompt
        return list(dict.fromkeys(word for text in texts for word in content_words(text) if word not in known))

    def _warn_of_unknown_words(self, name: str, prompt: str | Sequence[str]):
        words, is_last = new_words(self.model, self.unknown_words(prompt)) if self.model is not None else ([], False)
        if not words:
            return
        more = f" and {len(words) - MAX_NAMED} more" if len(words) > MAX_NAMED else ""
        end = "; further ones are not named" if is_last else ""
        logger.warning(
            f"`{name}` has words that the checkpoint's training texts had not, and what they mean is guessed: "
            f"{', '.join(words[:MAX_NAMED])}{more}{end}"
        )
