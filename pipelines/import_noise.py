"""What libraries log while they are imported, which tells a user of this package nothing."""

import logging

# torchao, which executorch brings, says which of its CUDA kernels this machine lacks; torch and diffusers say how old
# the ways are in which torchao registers itself; diffusers, that this package adds a command to optimum's.
_LOGGERS = ("torchao", "torch.utils._pytree", "diffusers.quantizers.torchao", "diffusers.utils.import_utils")


def silence_imports() -> None:
    """Keeps those messages off a terminal; errors still show. To be called before diffusers is imported."""
    for name in _LOGGERS:
        logging.getLogger(name).setLevel(logging.ERROR)
