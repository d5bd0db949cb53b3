"""The callback for Lightning's Trainer, whether it is installed as `lightning` or as `pytorch_lightning`."""

from __future__ import annotations

import logging
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

from torch import nn

from madyn.errors import UsageError, missing_dependency

if TYPE_CHECKING:
    from madyn.monitor.run import Begins, Run

log = logging.getLogger("madyn.monitor")

_PACKAGES = ("lightning.pytorch", "pytorch_lightning")


def lightning_callback(monitor: Begins, part: str | None = None) -> Any:
    """A callback of the Lightning that the user has loaded, or has."""
    return type("LightningCallback", (_Watching, _lightning().Callback), {})(monitor, part)


def _lightning() -> Any:
    """Lightning under the name that the user's code knows: there are two, each with classes of its own."""
    missing = ModuleNotFoundError("lightning", name="lightning")
    for name in (*(name for name in _PACKAGES if name in sys.modules), *_PACKAGES):
        try:
            return import_module(name)
        except ModuleNotFoundError as e:
            missing = e
    raise missing_dependency(missing) from missing


class _Watching:
    """What the callback does; Lightning's own class gives the rest."""

    def __init__(self, monitor: Begins, part: str | None) -> None:
        self.monitor, self._part = monitor, part
        self._run: Run | None = None

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        if not trainer.is_global_zero:
            return
        self._end()  # of a training that ended with an error, and is tried again
        planned = trainer.estimated_stepping_batches
        self._run = self.monitor.begin(
            transformer_in(pl_module, self._part),
            trainer.global_step,
            last_step=int(planned) if planned not in (None, float("inf")) and planned > 0 else None,
            name=type(pl_module).__name__,
            source=f"{type(pl_module).__module__}.{type(pl_module).__name__}",
        )

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if self._run is not None:
            self._log(trainer, self._run.step(trainer.global_step, batch))

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        if self._run is not None:
            if not self._run.needs_batch():
                self._log(trainer, self._run.step(trainer.global_step))
            self._end()

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        self._end()

    def _end(self) -> None:
        if self._run is not None:
            self._run = None
            self.monitor.finish()

    def _log(self, trainer: Any, found: dict[str, float]) -> None:
        if not found:
            return
        for logger in trainer.loggers:
            try:
                logger.log_metrics(found, step=trainer.global_step)
            except Exception:
                log.exception("the values of step %d were not logged", trainer.global_step)


def transformer_in(module: nn.Module, part: str | None) -> nn.Module:
    """The transformer that a LightningModule holds.

    Raises:
        UsageError: the path leads nowhere.
    """
    if part is not None:
        try:
            return module.get_submodule(part)
        except AttributeError:
            children = ", ".join(name for name, _ in module.named_children()) or "none"
            raise UsageError(f"{type(module).__name__} has no module {part!r}; its own are: {children}") from None
    from transformers import PreTrainedModel

    return next((found for found in module.modules() if isinstance(found, PreTrainedModel)), module)
