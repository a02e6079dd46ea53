# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""What a callback, or somebody who waits, may change about a call of a pipeline that runs: each call has its own.

diffusers keeps `_interrupt`, `_guidance_scale` and `_num_timesteps` on the pipeline. The names stay, as callbacks of
others read and set them; but two threads that share a pipeline do not meet in them.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(eq=False)
class CallState:
    """Of one call.

    Args:
        num_timesteps (`int`, *optional*, defaults to 0): Steps that it takes.
        guidance_scale (`float`, *optional*, defaults to 1.0): Of the steps that follow.
        interrupt (`bool`, *optional*, defaults to `False`): Stop after this step.
    """

    num_timesteps: int = 0
    guidance_scale: float = 1.0
    interrupt: bool = False


# Those that run in this thread, the innermost first: a callback may call another pipeline.
_OF_THIS_THREAD: ContextVar[tuple[CallState, ...]] = ContextVar("itit_pipeline_calls", default=())
_LOCK = threading.Lock()


class CallStateMixin:
    """State of the calls of [`ITITPipeline`].

    In a callback, and anywhere else in the thread of a call, the attributes are that call's. In any other thread, and
    after a call, they read as those of the call that began last; set there, they hold for all calls that run.
    """

    _running_calls: tuple[CallState, ...] = ()
    _last_call = CallState()

    @contextmanager
    def _call(self, num_timesteps: int, guidance_scale: float) -> Iterator[CallState]:
        call = CallState(num_timesteps, guidance_scale)
        with _LOCK:
            self._running_calls += (call,)
            self._last_call = call
        token = _OF_THIS_THREAD.set((call, *_OF_THIS_THREAD.get()))
        try:
            yield call
        finally:
            _OF_THIS_THREAD.reset(token)
            with _LOCK:
                self._running_calls = tuple(other for other in self._running_calls if other is not call)

    def _current_call(self) -> CallState | None:
        running = self._running_calls
        return next((call for call in _OF_THIS_THREAD.get() if call in running), None)

    def _set(self, name: str, value):
        call = self._current_call()
        for each in self._running_calls if call is None else (call,):
            setattr(each, name, value)

    @property
    def interrupt(self) -> bool:
        """Whether a call stops after this step, with the preview as its result; a callback sets `_interrupt`."""
        return (self._current_call() or self._last_call).interrupt

    @property
    def guidance_scale(self) -> float:
        """Of the steps that follow; a callback sets `_guidance_scale`."""
        return (self._current_call() or self._last_call).guidance_scale

    @property
    def do_classifier_free_guidance(self) -> bool:
        """Whether the steps that follow are guided: at a scale of 1.0 and below they are not."""
        return self.guidance_scale > 1.0

    @property
    def num_timesteps(self) -> int:
        """Steps of the call that runs, or ran last."""
        return (self._current_call() or self._last_call).num_timesteps

    @property
    def _interrupt(self) -> bool:
        return self.interrupt

    @_interrupt.setter
    def _interrupt(self, value: bool):
        self._set("interrupt", value)

    @property
    def _guidance_scale(self) -> float:
        return self.guidance_scale

    @_guidance_scale.setter
    def _guidance_scale(self, value: float):
        self._set("guidance_scale", value)

    @property
    def _num_timesteps(self) -> int:
        return self.num_timesteps
