"""The libraries of a training, imported in one go before anything else asks for them.

torch, transformers and datasets make some half a million objects while they are imported, and Python's collector goes
through all of them again and again: a fifth of the time. So it rests meanwhile, and what the libraries have made is put
where no later collection looks. transformers imports scipy's optimizers, where scipy is installed, for the losses of
object detection, which no language model has: it gets to see that scipy is missing.
"""

from __future__ import annotations

import functools
import gc
from importlib import import_module


@functools.cache
def import_libraries() -> None:
    """Import torch, datasets and the Trainer, once per process; the collector is then as it was before."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        import_module("datasets")
        _import_losses()
        import_module("transformers.trainer")
    finally:
        gc.freeze()
        if collecting:
            gc.enable()


def _import_losses() -> None:
    """transformers' losses without scipy."""
    import transformers.utils

    found = transformers.utils.is_scipy_available
    transformers.utils.is_scipy_available = lambda: False
    try:
        import_module("transformers.loss.loss_utils")
    finally:
        transformers.utils.is_scipy_available = found
