# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
import copy
import threading

import pytest

from itit_hf.pipelines.call_state import CallStateMixin


class Pipe(CallStateMixin):
    """Runs a function as the one step of a call."""

    def __call__(self, step, guidance_scale=3.0):
        with self._call(7, guidance_scale) as call:
            step(self)
            return call


def in_a_thread(work):
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()


def test_a_step_reads_and_sets_the_state_of_its_own_call():
    def step(pipe):
        assert (pipe.num_timesteps, pipe._num_timesteps, pipe.guidance_scale, pipe.interrupt) == (7, 7, 3.0, False)
        pipe._interrupt, pipe._guidance_scale = True, pipe._guidance_scale - 2.0

    pipe = Pipe()
    call = pipe(step)
    assert call.interrupt and call.guidance_scale == 1.0
    assert pipe.interrupt and pipe.guidance_scale == 1.0 and not pipe.do_classifier_free_guidance  # of the last call
    assert not pipe(lambda pipe: None).interrupt and pipe.guidance_scale == 3.0


def test_two_threads_do_not_meet():
    pipe, other = Pipe(), []

    def stop(pipe):
        pipe._interrupt, pipe._guidance_scale = True, 0.0

    def step(pipe):
        in_a_thread(lambda: other.append(pipe(stop, guidance_scale=5.0)))
        assert not pipe.interrupt and pipe.guidance_scale == 3.0 and pipe.do_classifier_free_guidance

    call = pipe(step)
    assert not call.interrupt and other[0].interrupt and other[0].guidance_scale == 0.0


def test_who_waits_in_another_thread_stops_every_call_that_runs_and_none_that_follows():
    pipe, calls = Pipe(), []

    def outer(pipe):
        in_a_thread(lambda: calls.append(pipe(lambda pipe: in_a_thread(lambda: setattr(pipe, "_interrupt", True)))))

    calls.append(pipe(outer))
    assert [call.interrupt for call in calls] == [True, True]
    assert not pipe(lambda pipe: None).interrupt


def test_a_step_that_calls_the_pipeline_again_gets_its_own_state_back():
    def step(pipe):
        inner = pipe(lambda pipe: setattr(pipe, "_guidance_scale", 9.0), guidance_scale=1.0)
        assert inner.guidance_scale == 9.0 and pipe.guidance_scale == 3.0

    assert Pipe()(step).guidance_scale == 3.0


def test_a_step_may_stop_the_call_of_another_pipeline():
    outer, inner = Pipe(), Pipe()

    def step(pipe):
        assert not inner(lambda pipe: setattr(outer, "_interrupt", True)).interrupt

    assert outer(step).interrupt


def test_a_call_that_fails_leaves_nothing_behind():
    pipe = Pipe()
    with pytest.raises(ZeroDivisionError):
        pipe(lambda pipe: 1 / 0)
    assert not pipe._running_calls and copy.deepcopy(pipe).num_timesteps == 7
