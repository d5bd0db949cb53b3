"""The callback for transformers' Trainer.

What is logged goes through `Trainer.log`, so that every logger that the trainer reports to has it: reporting callbacks
run before a user's, and never see what a later callback adds to `logs`. A callback is not told whose it is, and the
trainer is found where it calls.
"""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, Any

from transformers import Trainer, TrainerCallback

if TYPE_CHECKING:
    from madyn.monitor.run import Begins, Run

log = logging.getLogger("madyn.monitor")


class TransformersCallback(TrainerCallback):
    """Watches the run of a Trainer for a monitor."""

    def __init__(self, monitor: Begins) -> None:
        self.monitor = monitor
        self._trainer: Trainer | None = None
        self._run: Run | None = None
        self._hook: Any = None

    def on_init_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._trainer = calling_trainer()

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        if not state.is_world_process_zero:
            return
        self._trainer = calling_trainer() or self._trainer
        if self._run is not None:  # of a training that ended with an error, and is tried again
            self._take_off()
            self.monitor.finish()
        self._run = self.monitor.begin(
            model,
            state.global_step,
            last_step=state.max_steps if state.max_steps > 0 else None,
            name=args.output_dir,
            source=args.output_dir,
            tokenizer=kwargs.get("processing_class"),
        )
        if self._run.needs_batch():
            outermost = getattr(self._trainer, "model_wrapped", None)
            hooked = outermost if outermost is not None else model
            self._hook = hooked.register_forward_pre_hook(self._first_batch, with_kwargs=True)
        else:
            self._step(state.global_step)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self._run is not None and not self._run.needs_batch():
            self._step(state.global_step)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._take_off()
        if self._run is not None:
            self._run = None
            self.monitor.finish()

    def _first_batch(self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Measure on the first batch, before the model sees it: its weights are still those that it began with."""
        if module.training:
            self._take_off()
            self._step(self._trainer.state.global_step if self._trainer is not None else 0, kwargs or args)

    def _take_off(self) -> None:
        if self._hook is not None:
            self._hook.remove()
            self._hook = None

    def _step(self, step: int, batch: Any = None) -> None:
        if self._run is None:
            return
        found = self._run.step(step, batch)
        if not found or self._trainer is None:
            return
        due = self._trainer.control.should_log
        try:
            # Not the log of a class made from Trainer: some empty what they have gathered when they are called.
            Trainer.log(self._trainer, found)
        except Exception:  # a logger's failure is not the run's
            log.exception("the values of step %d were not logged", step)
        # Whoever logs strikes it off the trainer's list, and its own losses would be left out.
        self._trainer.control.should_log = due


def calling_trainer() -> Trainer | None:
    """The trainer that has called, some frames above; None where none did."""
    frame = sys._getframe(1)
    while frame is not None:
        found = frame.f_locals.get("self")
        if isinstance(found, Trainer):
            return found
        frame = frame.f_back
    return None
