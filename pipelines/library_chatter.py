"""Keeps off a terminal what libraries say of themselves and a user cannot act on; errors still show."""

import contextlib
import logging
import warnings
from collections.abc import Iterator

# torchao, which executorch brings, says which of its CUDA kernels this machine lacks; torch and diffusers say how old
# the ways are in which torchao registers itself; diffusers, that this package adds a command to optimum's.
_LOGGERS = ("torchao", "torch.utils._pytree", "diffusers.quantizers.torchao", "diffusers.utils.import_utils")


def silence_imports() -> None:
    """Keeps quiet what libraries log while they are imported. To be called before diffusers is imported."""
    for name in _LOGGERS:
        logging.getLogger(name).setLevel(logging.ERROR)


def silence_libraries() -> None:
    """Keeps the notes and progress bars of diffusers and transformers quiet from here on."""
    import diffusers
    import transformers

    for library in (diffusers.utils.logging, transformers.utils.logging):
        library.set_verbosity_error()
        library.disable_progress_bar()


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Within the block warnings are dropped, and log records below an error."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
