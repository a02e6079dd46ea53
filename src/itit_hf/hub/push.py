# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""Uploads to the Hub: of a model's card, of a pipeline with its card, and of a training that goes on whatever the Hub
does.

A failed upload is tried again where that can help, and is then said once, in words without the token; what was to be
uploaded stays where it is on disk.
"""

import os
import re
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from time import sleep
from typing import Any

import torch
from accelerate.utils import broadcast_object_list
from huggingface_hub import CommitInfo, HfApi, get_token
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalTokenNotFoundError
from transformers.trainer_utils import HubStrategy
from transformers.utils import PushInProgress, logging

from .model_card import ModelFacts, model_card

logger = logging.get_logger(__name__)

ATTEMPTS = 5
FIRST_WAIT = 2.0  # seconds, doubled after each attempt
CARD = "README.md"
_STAGE = "_push-"
# Of what the Hub refuses, what may go well later: too slow, two commits at once, too many requests, its own errors.
_PASSING = (408, 409, 412, 425, 429, 500, 502, 503, 504)
_FINAL = (HFValidationError, LocalTokenNotFoundError, FileNotFoundError, PermissionError)
_SECRET = re.compile(r"hf_[A-Za-z0-9]{8,}|(?<=Bearer )\S+|(?<=://)[^/@\s]+(?=@)")
# Pickles: nobody should open those of others, and the one of the arguments holds the token.
_NEVER_PUSHED = ["training_args.bin", "*/training_args.bin"]


class UploadError(RuntimeError):
    """An upload that was given up; what it was to upload is still on disk."""


def redact_tokens(text: str, token: str | None = None) -> str:
    """A message as it may stand in a log.

    Args:
        text (`str`): Any message.
        token (`str`, *optional*): The token in use; the one of this machine is looked for in any case.

    Returns:
        `str`: Without tokens, authorization headers, and names and passwords in addresses.
    """
    for secret in (token, get_token()):
        if isinstance(secret, str) and secret:
            text = text.replace(secret, "***")
    return _SECRET.sub("***", text)


def is_transient(error: Exception) -> bool:
    """Whether the same request may go well later: not if the Hub knows who asks and says no."""
    if isinstance(error, HfHubHTTPError) and error.response is not None:
        return error.response.status_code in _PASSING
    return not isinstance(error, _FINAL)


def with_retries(action: Callable[[], object], what: str, token: str | None = None):
    """Do something that needs the Hub, `ATTEMPTS` times at most, with growing pauses.

    Args:
        action (`Callable`): Without arguments; safe to repeat.
        what (`str`): What it does, for the messages.
        token (`str`, *optional*): The token in use, kept out of the messages.

    Returns:
        What `action` returns.

    Raises:
        UploadError: If it was refused, or failed each time.
    """
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return action()
        except Exception as error:  # whatever the HTTP library of the day raises
            reason = redact_tokens(f"{type(error).__name__}: {error}", token)
            if attempt == ATTEMPTS or not is_transient(error):
                raise UploadError(f"{what} failed, attempt {attempt}: {reason}") from None
            wait = FIRST_WAIT * 2 ** (attempt - 1)
            logger.warning(f"{what} failed, attempt {attempt} of {ATTEMPTS}; again in {wait:.0f} s: {reason}")
            sleep(wait)


def upload(
    folder: str,
    repo_id: str,
    commit_message: str | None,
    token: str | None = None,
    revision: str | None = None,
    create_pr: bool = False,
    delete_patterns: Sequence[str] = (),
) -> CommitInfo:
    """Upload a folder in one commit, and try again where that can help. No pickled arguments go along.

    An attempt whose answer was lost is not repeated: files that are there already are left out, and nothing is left.

    Args:
        folder (`str`): What to upload.
        repo_id (`str`): Where to; must exist.
        commit_message (`str`, *optional*): Of the commit.
        token (`str`, *optional*): The one of this machine by default.
        revision (`str`, *optional*): Branch; main by default.
        create_pr (`bool`, *optional*, defaults to `False`): Open a pull request instead.
        delete_patterns (`Sequence[str]`): What is removed there if it is not in the folder.

    Returns:
        `CommitInfo`.

    Raises:
        UploadError: If it was refused, or failed each time.
    """
    action = partial(
        HfApi().upload_folder,
        repo_id=repo_id,
        folder_path=folder,
        commit_message=commit_message,
        token=token,
        revision=revision,
        create_pr=create_pr,
        ignore_patterns=_NEVER_PUSHED,
        delete_patterns=list(delete_patterns) or None,
    )
    return with_retries(action, f"the upload to {repo_id}", token)


def make_repository(repo_id: str, private: bool | None = None, token: str | None = None) -> tuple[str, bool]:
    """Make a repository if it is not there.

    Args:
        repo_id (`str`): Repository; in the name of the token's owner if it names none.
        private (`bool`, *optional*): Of a new repository.
        token (`str`, *optional*): The one of this machine by default.

    Returns:
        `tuple[str, bool]`: Its full name, and whether it has a card.

    Raises:
        UploadError: If it was refused, or failed each time.
    """
    create = partial(HfApi().create_repo, repo_id, private=private, token=token, exist_ok=True)
    repo_id = with_retries(create, f"making {repo_id}", token).repo_id
    look = partial(HfApi().file_exists, repo_id, CARD, token=token)
    return repo_id, with_retries(look, f"looking at {repo_id}", token)


def push_model_card(model, repo_id: str, facts: Mapping | None = None, token: str | None = None) -> CommitInfo:
    """Upload the card of a network that `model.push_to_hub` uploaded, in place of the card that is there.

    Args:
        model (`PreTrainedModel`): [`ITITModel`] or one with heads, whose class and size the card tells.
        repo_id (`str`): Repository; must exist.
        facts (`Mapping`, *optional*): What else the card tells, by the names of [`~hub.model_card.ModelFacts`].
        token (`str`, *optional*): The one of this machine by default.

    Returns:
        `CommitInfo`.

    Raises:
        UploadError: If the upload was refused, or failed each time.
    """
    known: dict[str, Any] = {"name": repo_id.split("/")[-1], "location": repo_id}
    known |= {"opened_by": type(model).__name__, "parameters": {"model": model.num_parameters()}}
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, CARD).write_text(model_card(ModelFacts(**(known | dict(facts or {})))), encoding="utf-8")
        return upload(folder, repo_id, "Upload the model card", token)


class PipelineHubMixin:
    """`push_to_hub` of [`ITITPipeline`]."""

    # Of `DiffusionPipeline`.
    save_pretrained: Callable
    config: Mapping
    components: Mapping[str, Any]
    __call__: Callable

    def push_to_hub(
        self,
        repo_id: str,
        commit_message: str | None = None,
        private: bool | None = None,
        token: str | None = None,
        create_pr: bool = False,
        prompts: Sequence[str] = (),
        facts: Mapping | None = None,
    ) -> CommitInfo:
        """Upload every component, a card and, if asked, images: one `from_pretrained` opens them.

        The card is written of `facts`; without any, one that the repository has stays, and so does that of the folder
        which the pipeline was loaded from.

        Args:
            repo_id (`str`): Repository, made if it is not there.
            commit_message (`str`, *optional*): Of the commit.
            private (`bool`, *optional*): Of a new repository.
            token (`str`, *optional*): The one of this machine by default.
            create_pr (`bool`, *optional*, defaults to `False`): Open a pull request instead.
            prompts (`Sequence[str]`): What to generate for the card, prompt i from the seed i.
            facts (`Mapping`, *optional*): What the card tells, by the names of [`~hub.model_card.ModelFacts`].

        Returns:
            `CommitInfo`.

        Raises:
            UploadError: If the upload was refused, or failed each time.
        """
        repo_id, kept = make_repository(repo_id, private, token)
        with tempfile.TemporaryDirectory() as folder:
            self.save_pretrained(folder)
            images = self._draw_for_card(prompts, folder)
            told = dict(facts or {}) | ({"images": images} if images else {})
            own = Path(str(self.config.get("_name_or_path") or "")) / CARD
            if told or not (kept or own.is_file()):
                known: dict[str, Any] = {"name": repo_id.split("/")[-1], "location": repo_id}
                known |= {"parameters": self._count_parameters(), "prompt": next(iter(prompts), None)}
                Path(folder, CARD).write_text(model_card(ModelFacts(**(known | told))), encoding="utf-8")
            elif not kept:
                shutil.copy(own, folder)
            message = commit_message or f"Upload {type(self).__name__}"
            return upload(folder, repo_id, message, token, create_pr=create_pr)

    def _draw_for_card(self, prompts: Sequence[str], folder: str) -> dict[str, str]:
        """Prompt -> file in `folder`."""
        files = {}
        for i, prompt in enumerate(prompts):
            name = re.sub(r"\W+", "-", prompt.lower()).strip("-")[:40]
            files[prompt] = f"images/{i:02d}-{name}.png"
            Path(folder, "images").mkdir(exist_ok=True)
            self(prompt, generator=torch.Generator().manual_seed(i)).images[0].save(Path(folder, files[prompt]))
        return files

    def _count_parameters(self) -> dict[str, int]:
        parts = {name: part for name, part in self.components.items() if isinstance(part, torch.nn.Module)}
        return {name.replace("_", " "): sum(p.numel() for p in part.parameters()) for name, part in parts.items()}


class TrainerHubMixin:
    """`push_to_hub` of [`ITITTrainer`]: what is pushed is the pipeline, with a card and the newest sample images.

    During training (`hub_strategy` other than `"end"`) each checkpoint is copied beside the others and uploaded in the
    background; an upload that fails never stops the training.
    """

    # Of `Trainer` and [`ITITTrainer`].
    args: Any
    state: Any
    control: Any
    callback_handler: Any
    hub_model_id: Any
    push_in_progress: PushInProgress | None
    is_world_process_zero: Callable[[], bool]
    save_pipeline: Callable
    samples: Any
    _finish_current_push: Callable[[], None]

    def init_hf_repo(self, token: str | None = None, private: bool | None = None) -> None:
        """As in transformers, with several attempts: a run that cannot push should say so before it begins."""
        if self.is_world_process_zero():
            for left in Path(self.args.output_dir).glob(f"{_STAGE}*"):  # by a run that was killed
                shutil.rmtree(left, ignore_errors=True)
        create = partial(super().init_hf_repo, token=token, private=private)  # type: ignore[misc]
        with_retries(create, f"making {self.args.hub_model_id or self.args.output_dir}", token or self.args.hub_token)

    def push_to_hub(
        self,
        commit_message: str | None = "End of training",
        blocking: bool = True,
        token: str | None = None,
        revision: str | None = None,
        private: bool | None = None,
        facts: Mapping | None = None,
    ) -> CommitInfo | Future | None:
        """Upload the pipeline with a card of all that the trainer knows, and the newest sample images.

        A file `README.md` in `output_dir` is the card, as it is. Every process must call this.

        Args:
            commit_message (`str`, *optional*, defaults to `"End of training"`): Of the commit.
            blocking (`bool`, *optional*, defaults to `True`): Wait for the end of the upload.
            token (`str`, *optional*): `hub_token` by default, else the one of this machine.
            revision (`str`, *optional*): Branch; `hub_revision` by default, else main.
            private (`bool`, *optional*): Of a new repository.
            facts (`Mapping`, *optional*): What only the user knows, by the names of [`~hub.model_card.ModelFacts`].

        Returns:
            `CommitInfo`, or a `Future` of it if not `blocking`; `None` in all processes but the first.

        Raises:
            UploadError: If the upload was refused, or failed each time.
        """
        self.callback_handler.on_push_begin(self.args, self.state, self.control)
        if self.hub_model_id is None:
            self.init_hf_repo(token, private)
        folder = self._stage(facts or {})
        if not self.is_world_process_zero():
            return None
        self._finish_current_push()
        push = partial(self._upload_and_remove, folder, commit_message, token, revision)
        return push() if blocking else HfApi().run_as_future(push)

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        """Called by the Trainer, in every process, after each checkpoint."""
        args = self.args
        if args.hub_strategy == HubStrategy.END or self._is_pushing():
            return
        self.callback_handler.on_push_begin(args, self.state, self.control)
        try:
            folder = self._stage({}, checkpoint_folder)
        except OSError as error:
            logger.warning(f"step {self.state.global_step}: nothing is pushed, as it cannot be copied: {error}")
            return
        if not self.is_world_process_zero():
            return
        message = f"Training in progress, step {self.state.global_step}"
        job = HfApi().run_as_future(partial(self._push_or_say_why, folder, message, checkpoint_folder))
        self.push_in_progress = self.push_in_progress or PushInProgress([])
        self.push_in_progress.jobs = [each for each in self.push_in_progress.jobs if not each.done()] + [job]

    def _is_pushing(self) -> bool:
        """Whether the last upload has not ended and the next one waits for it; the first process knows."""
        busy = [False]
        if self.is_world_process_zero() and not self.args.hub_always_push:
            busy = [self.push_in_progress is not None and not self.push_in_progress.is_done()]
        if self.args.world_size > 1:
            broadcast_object_list(busy)
        return busy[0]

    def _stage(self, facts: Mapping, checkpoint_folder: str | None = None) -> str:
        """Copy what is pushed into a folder that training does not touch; weights that are sharded are gathered."""
        output_dir = self.args.output_dir
        os.makedirs(output_dir, exist_ok=True)
        folder = tempfile.mkdtemp(prefix=_STAGE, dir=output_dir) if self.args.should_save else output_dir
        known = {"name": self.hub_model_id.split("/")[-1], "location": self.hub_model_id}
        if self.args.should_save:
            known["images"] = self._copy_samples(folder)
            known["prompt"] = next(iter(self.samples.prompts()), None)
            if os.path.isfile(os.path.join(output_dir, CARD)):
                shutil.copy(os.path.join(output_dir, CARD), folder)
            if checkpoint_folder is not None:
                self._copy_checkpoint(checkpoint_folder, folder)
        self.save_pipeline(folder, known | dict(facts))
        return folder

    def _copy_samples(self, folder: str) -> dict[str, str]:
        """The images of the newest step that has some: title -> file in `folder`."""
        found = sorted(Path(self.args.output_dir, "samples").glob("step-*.png"))
        images = {}
        for path in found:
            step, _, cycle = path.stem.removeprefix("step-").partition("-")
            if step == found[-1].stem.removeprefix("step-").partition("-")[0]:
                Path(folder, "samples").mkdir(exist_ok=True)
                shutil.copy(path, Path(folder, "samples"))
                images[f"Step {int(step):,}" + (f", cycle {cycle}" if cycle else "")] = f"samples/{path.name}"
        return images

    def _copy_checkpoint(self, checkpoint_folder: str, folder: str) -> None:
        """What resuming needs, if `hub_strategy` asks for it; a link costs no space and outlives the rotation."""
        if self.args.hub_strategy in (HubStrategy.CHECKPOINT, HubStrategy.ALL_CHECKPOINTS):
            last = self.args.hub_strategy == HubStrategy.CHECKPOINT
            name = "last-checkpoint" if last else Path(checkpoint_folder).name
            shutil.copytree(checkpoint_folder, os.path.join(folder, name), copy_function=_link)

    def _push_or_say_why(self, folder: str, commit_message: str, checkpoint_folder: str) -> CommitInfo | None:
        """In a thread of its own, where an error that is raised is seen by nobody."""
        try:
            return self._upload_and_remove(folder, commit_message)
        except UploadError as error:
            logger.warning(f"{error}; training goes on, and the checkpoint is in {checkpoint_folder}")
            return None

    def _upload_and_remove(self, folder: str, commit_message: str | None, token=None, revision=None) -> CommitInfo:
        args = self.args
        stale = ["last-checkpoint/*"] if os.path.isdir(os.path.join(folder, "last-checkpoint")) else []
        options = {"token": token or args.hub_token, "revision": revision or args.hub_revision}
        try:
            return upload(folder, self.hub_model_id, commit_message, **options, delete_patterns=stale)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without links
        shutil.copy2(source, target)
