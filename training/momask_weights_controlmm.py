"""MoMask's released weights (MIT, github.com/EricGuo5513/momask-codes) for the networks of ControlMM at paper size.

The authors' files `net_best_fid.tar`, `latest.tar` and `finest.tar` are pickles of `torch.save`, the only ones that are
read here: what they hold beside tensors and plain values is refused, and no code in them is run.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from ..hub_models.pickled_weights_controlmm import load_pickle

State = dict[str, Tensor]

LEFT_OUT = ("clip_model.", "position_enc.pe")
"""What a file may hold beside the weights: the frozen text encoder, and sines and cosines that are computed here."""


def load_autoencoder(model: nn.Module, path: str | Path) -> None:
    """Fills a `MotionRVQVAE` with the weights of MoMask's RVQVAE; its statistics stay, as such files hold none.

    Args:
        model: of the released sizes, for example by `from_preset("paper")`.
        path: of `net_best_fid.tar`.

    Raises:
        FileNotFoundError: it is missing.
        ValueError: it is damaged, asks for code to be run, or holds other weights than those of such a model.
    """
    state = read_state(path, ("vq_model", "net"))
    weights = _stacked_codebooks(_renamed(state, _autoencoder_names(model.config.stages)))
    _fill(model, weights | {"mean": model.mean, "std": model.std}, path)


def load_transformer(model: nn.Module, path: str | Path) -> None:
    """Fills a `ControlMMTransformer` with the weights of MoMask's masked transformer, as `load_autoencoder` does."""
    state = read_state(path, ("t2m_transformer", "trans"))
    _fill(model, _split_attention(_renamed(state, TRANSFORMER_NAMES)), path)


def load_residual_transformer(model: nn.Module, path: str | Path) -> None:
    """Fills a `ControlMMResidualTransformer` with MoMask's weights, those that share their embeddings ("_sw")."""
    state = read_state(path, ("res_transformer",))
    _fill(model, _split_attention(_renamed(state, RESIDUAL_NAMES)), path)


def load_length_estimator(model: nn.Module, path: str | Path) -> None:
    """Fills a `ControlMMLengthEstimator` with the weights of MoMask's, as `load_autoencoder` does."""
    _fill(model, _renamed(read_state(path, ("estimator",)), ESTIMATOR_NAMES), path)


def read_state(path: str | Path, entries: Sequence[str]) -> State:
    """The weights in a file of `torch.save`, by MoMask's names, without `LEFT_OUT`.

    Args:
        path: of a zip, as `torch.save` writes it since torch 1.6.
        entries: names of the entry that holds them; the first that is there is taken.

    Raises:
        FileNotFoundError: it is missing.
        ValueError: it is no such file, or holds something else than finite tensors there.
    """
    path = Path(path)
    content = load_pickle(path)
    found = next((entry for entry in entries if isinstance(content, dict) and entry in content), None)
    if found is None:
        held = ", ".join(sorted(str(key)[:40] for key in content)[:8]) if isinstance(content, dict) else "none"
        raise ValueError(f"{path} must hold an entry {' or '.join(map(repr, entries))}; its entries are: {held}.")
    state = content[found]
    if not isinstance(state, Mapping) or not all(isinstance(name, str) for name in state):
        raise ValueError(f"entry {found!r} of {path} must map names to tensors, not be a {type(state).__name__}.")
    kept = {name: value for name, value in state.items() if not name.startswith(LEFT_OUT)}
    for name, value in kept.items():
        if not (isinstance(value, Tensor) and value.is_floating_point() and value.layout == torch.strided):
            raise ValueError(f"{name!r} of {path} must be a dense tensor of floating point numbers.")
        if value.numel() * value.itemsize > value.untyped_storage().nbytes():
            raise ValueError(f"{name!r} of {path} must have a number of its own for each of {list(value.shape)}.")
    return kept


def _fill(model: nn.Module, state: State, path: str | Path) -> None:
    """Loads a state dict of our names when it is complete and fits."""
    wanted, kind = model.state_dict(), type(model).__name__
    for names, fault in ((wanted.keys() - state, "lacks"), (state.keys() - wanted, "also holds")):
        if names:
            listed = f"{len(names)} of them, such as {min(names)!r}" if fault == "lacks" else f"{min(names)!r}"
            raise ValueError(f"{path} must hold the weights of this {kind} and no others, but {fault} {listed}.")
    for name, value in state.items():
        if value.shape != wanted[name].shape:
            raise ValueError(
                f"{name!r} from {path} must be {list(wanted[name].shape)} for this {kind}, not {list(value.shape)}."
            )
        if not torch.isfinite(value).all():
            raise ValueError(f"{name!r} from {path} must be finite, but holds NaN or infinity.")
    model.load_state_dict(state)


def _renamed(state: State, names: Mapping[str, str]) -> State:
    """Tensors whose names begin as in `names` under ours; others keep their names, and are refused later."""
    renamed = {}
    for theirs, value in state.items():
        start = max((start for start in names if theirs.startswith(start)), key=len, default="")
        renamed[names.get(start, "") + theirs[len(start) :]] = value
    return renamed


TRANSFORMER_NAMES = {
    "cond_emb.": "text_in.",
    "token_emb.": "token_embedding.",
    "input_process.poseEmbedding.": "tokens_in.",
    "seqTransEncoder.": "trunk.",
    "output_process.dense.": "head.0.",
    "output_process.LayerNorm.": "head.2.",
    "output_process.poseFinal.": "head.3.",
}

RESIDUAL_NAMES = {
    **TRANSFORMER_NAMES,
    "quant_emb.": "layer_in.",
    "token_embed_weight_": "first_codes",
    "embed_proj_shared_weight": "shared_codes",
    "output_proj_weight_": "last_codes",
}

ESTIMATOR_NAMES = {"output.": "layers.", "output.11.": "layers.12."}  # ours has a dropout more, of the third layer


def _autoencoder_names(stages: int) -> dict[str, str]:
    names = {
        "encoder.model.0.": "encoder.conv_in.",
        f"encoder.model.{stages + 2}.": "encoder.conv_out.",
        "decoder.model.0.": "decoder.conv_in.",
        f"decoder.model.{stages + 2}.": "decoder.conv_mid.",
        f"decoder.model.{stages + 4}.": "decoder.conv_out.",
    }
    for stage in range(stages):
        names[f"encoder.model.{stage + 2}.0."] = f"encoder.downs.{stage}."
        names[f"encoder.model.{stage + 2}.1.model."] = f"encoder.stacks.{stage}.blocks."
        names[f"decoder.model.{stage + 2}.0.model."] = f"decoder.stacks.{stage}.blocks."
        names[f"decoder.model.{stage + 2}.2."] = f"decoder.ups.{stage}."
    return names


def _split_attention(state: State) -> State:
    """Queries apart from keys and values, which torch's attention holds in one matrix, and our names of attention."""
    split = {}
    for name, value in state.items():
        name = name.replace(".self_attn.out_proj.", ".attention.to_out.")
        joined = re.fullmatch(r"(trunk\.layers\.\d+)\.self_attn\.in_proj_(weight|bias)", name)
        if joined is None or value.ndim == 0:
            split[name] = value
        else:
            third = len(value) // 3
            split[f"{joined[1]}.attention.to_q.{joined[2]}"] = value[:third]
            split[f"{joined[1]}.attention.to_kv.{joined[2]}"] = value[third:]
    return split


def _stacked_codebooks(state: State) -> State:
    """Codebooks of all layers in one tensor; each code begins with a count of 1, as MoMask's training does."""
    names = [f"quantizer.layers.{layer}.codebook" for layer in range(sum("codebook" in name for name in state))]
    books = [state[name] for name in names if name in state]
    if not books or any(book.ndim != 2 or book.shape != books[0].shape for book in books):
        return state
    others = {name: value for name, value in state.items() if name not in names}
    stacked = torch.stack(books)  # [layers, codes, width]
    return {**others, "quantizer.codebooks": stacked, "quantizer.counts": stacked.new_ones(stacked.shape[:2])}
