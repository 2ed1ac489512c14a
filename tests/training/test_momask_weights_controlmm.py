"""MoMask's weights in ControlMM's networks: what twins of its networks compute with them, and files that are refused.

The twins have MoMask's structure and names at small sizes, with torch's own transformer encoder.
"""

import collections
import os
import zipfile

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from damaged_files import damaged
from torch import nn

from pocket_diffusers.hub_models.autoencoder_controlmm import MotionRVQVAE
from pocket_diffusers.hub_models.length_estimator_controlmm import ControlMMLengthEstimator
from pocket_diffusers.hub_models.transformer_controlmm import ControlMMResidualTransformer, ControlMMTransformer
from pocket_diffusers.training.momask_weights_controlmm import (
    load_autoencoder,
    load_length_estimator,
    load_residual_transformer,
    load_transformer,
    read_state,
)

FEATURES, WIDTH, CODES, CODE_WIDTH, LAYERS, DEPTH = 11, 12, 7, 6, 4, 2
DIM, HEADS, HIDDEN, TEXT, BLOCKS = 8, 2, 16, 10, 3


class Residual(nn.Module):
    def __init__(self, dilation):
        super().__init__()
        self.conv1 = nn.Conv1d(WIDTH, WIDTH, 3, padding=dilation, dilation=dilation)
        self.conv2 = nn.Conv1d(WIDTH, WIDTH, 1)

    def forward(self, x):
        return x + self.conv2(F.relu(self.conv1(F.relu(x))))


class Stack(nn.Module):
    def __init__(self):
        super().__init__()
        self.model = nn.Sequential(*(Residual(3**power) for power in reversed(range(DEPTH))))

    def forward(self, x):
        return self.model(x)


class Model(nn.Module):
    def __init__(self, *layers):
        super().__init__()
        self.model = nn.Sequential(*layers)


class Codebook(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("codebook", torch.randn(CODES, CODE_WIDTH))


class TwinAutoencoder(nn.Module):
    def __init__(self):
        super().__init__()
        downs = [nn.Sequential(nn.Conv1d(WIDTH, WIDTH, 4, 2, 1), Stack()) for _ in range(2)]
        ups = [nn.Sequential(Stack(), nn.Upsample(scale_factor=2), nn.Conv1d(WIDTH, WIDTH, 3, 1, 1)) for _ in range(2)]
        ends = [nn.Conv1d(n, m, 3, 1, 1) for n, m in ((FEATURES, WIDTH), (WIDTH, CODE_WIDTH))]
        starts = [nn.Conv1d(n, m, 3, 1, 1) for n, m in ((CODE_WIDTH, WIDTH), (WIDTH, WIDTH), (WIDTH, FEATURES))]
        self.encoder = Model(ends[0], nn.ReLU(), *downs, ends[1])
        self.decoder = Model(starts[0], nn.ReLU(), *ups, starts[1], nn.ReLU(), starts[2])
        self.quantizer = nn.Module()
        self.quantizer.layers = nn.ModuleList(Codebook() for _ in range(LAYERS))

    def forward(self, motion):
        rest, ids, total = self.encoder.model(motion.mT).mT, [], 0
        for layer in self.quantizer.layers:
            ids.append(torch.cdist(rest, layer.codebook[None]).argmin(-1))
            code = layer.codebook[ids[-1]]
            rest, total = rest - code, total + code
        return torch.stack(ids, -1), self.decoder.model(total.mT).mT


def linear(name, n, m):
    inner = nn.Module()
    setattr(inner, name, nn.Linear(n, m))
    return inner


class TwinTransformer(nn.Module):
    def __init__(self, out):
        super().__init__()
        self.input_process = linear("poseEmbedding", CODE_WIDTH, DIM)
        self.position_enc = nn.Module()
        place, channel = np.arange(50)[:, None], np.arange(0, DIM, 2)
        angles = place * np.exp(-channel * np.log(10000.0) / DIM)
        table = np.stack([np.sin(angles), np.cos(angles)], -1).reshape(50, DIM)
        self.position_enc.register_buffer("pe", torch.from_numpy(table).float()[:, None])
        layer = nn.TransformerEncoderLayer(DIM, HEADS, HIDDEN, 0.0, "gelu")
        self.seqTransEncoder = nn.TransformerEncoder(layer, BLOCKS, enable_nested_tensor=False)
        self.cond_emb = nn.Linear(TEXT, DIM)
        self.output_process = nn.Module()
        self.output_process.dense = nn.Linear(DIM, DIM)
        self.output_process.LayerNorm = nn.LayerNorm(DIM, eps=1e-12)
        self.output_process.poseFinal = nn.Linear(DIM, out)

    def run(self, embedded, front):
        x = self.input_process.poseEmbedding(embedded) + self.position_enc.pe[: embedded.shape[1], 0]
        x = self.seqTransEncoder(torch.cat([*(each[:, None] for each in front), x], 1).transpose(0, 1)).transpose(0, 1)
        head = self.output_process
        return head.poseFinal(head.LayerNorm(F.gelu(head.dense(x[:, len(front) :]))))


class TwinMasked(TwinTransformer):
    def __init__(self):
        super().__init__(CODES)
        self.token_emb = nn.Embedding(CODES + 2, CODE_WIDTH)

    def forward(self, ids, text):
        return self.run(self.token_emb(ids), [self.cond_emb(text)])


class TwinResidual(TwinTransformer):
    def __init__(self):
        super().__init__(CODE_WIDTH)
        self.quant_emb = nn.Linear(LAYERS, DIM)
        self.embed_proj_shared_weight = nn.Parameter(torch.randn(LAYERS - 2, CODES + 1, CODE_WIDTH))
        self.token_embed_weight_ = nn.Parameter(torch.randn(1, CODES + 1, CODE_WIDTH))
        self.output_proj_weight_ = nn.Parameter(torch.randn(1, CODES + 1, CODE_WIDTH))

    def forward(self, ids, layer, text):
        tables = [self.token_embed_weight_[0], *self.embed_proj_shared_weight]
        embedded = sum(tables[j][ids[..., j]] for j in range(layer))
        number = self.quant_emb(torch.eye(LAYERS)[layer]).expand(len(ids), -1)
        out = self.run(embedded, [self.cond_emb(text), number])
        projections = [*self.embed_proj_shared_weight, self.output_proj_weight_[0]]
        return (out @ projections[layer - 1].T)[..., :CODES]  # padding, the last id, is never predicted


def twin_estimator():
    sizes, layers = (TEXT, 16, 8, 4), []
    for n, m in zip(sizes, sizes[1:], strict=False):
        layers += [nn.Linear(n, m), nn.LayerNorm(m), nn.LeakyReLU(0.2), nn.Dropout(0.2)]
    twin = nn.Module()
    twin.output = nn.Sequential(*layers[:-1], nn.Linear(4, 6))
    return twin


SIZES = {"num_codes": CODES, "code_width": CODE_WIDTH, "text_width": TEXT, "width": DIM, "num_layers": BLOCKS}
SIZES |= {"num_heads": HEADS, "ff_width": HIDDEN}


def autoencoder(**changes):
    sizes = {"features": FEATURES, "width": WIDTH, "depth": DEPTH, "num_quantizers": LAYERS}
    return MotionRVQVAE(**sizes | {"num_codes": CODES, "code_width": CODE_WIDTH} | changes).eval()


def masked(**changes):
    return ControlMMTransformer(**SIZES | changes).eval()


def residual(**changes):
    return ControlMMResidualTransformer(**SIZES | {"num_quantizers": LAYERS} | changes).eval()


def estimator(**changes):
    return ControlMMLengthEstimator(**{"text_width": TEXT, "width": 16, "max_tokens": 5} | changes).eval()


def rough(twin):
    """Numbers of a size at which every one matters, norms included."""
    torch.manual_seed(0)
    for value in twin.parameters():
        nn.init.normal_(value, std=0.5)
    return twin.eval()


def saved(path, state, entry, **others):
    optimiser = torch.optim.AdamW([nn.Parameter(torch.ones(2))])
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimiser, [5, 5, 9]).state_dict()
    assert isinstance(schedule["milestones"], collections.Counter)
    torch.save({entry: state, "scheduler": schedule, "ep": 3, "total_it": 9} | others, path)
    return path


@pytest.mark.parametrize("entry", ["vq_model", "net"])
@torch.no_grad()
def test_autoencoder_codes_and_decodes_alike(tmp_path, entry):
    twin, model = rough(TwinAutoencoder()), autoencoder()
    model.set_statistics(torch.arange(FEATURES).float(), torch.full((FEATURES,), 2.0))
    load_autoencoder(model, saved(tmp_path / "a.tar", twin.state_dict(), entry))
    assert torch.equal(model.mean, torch.arange(FEATURES)) and model.std.eq(2).all()
    motion = torch.randn(2, 24, FEATURES)
    ids, decoded = twin(motion)
    assert torch.equal(model.encode(motion), ids)
    torch.testing.assert_close(model.decode_ids(ids), decoded, atol=1e-4, rtol=1e-4)
    assert model.quantizer.counts.eq(1).all(), "or training would start the codes anew"


@pytest.mark.parametrize("entry", ["t2m_transformer", "trans"])
@torch.no_grad()
def test_masked_transformer_says_the_same(tmp_path, entry):
    twin, model = rough(TwinMasked()), masked()
    state = twin.state_dict() | {"clip_model.token_embedding": torch.ones(2).half()}
    load_transformer(model, saved(tmp_path / "a.tar", state, entry))
    ids, text = torch.randint(CODES + 2, (2, 9)), torch.randn(2, TEXT)
    torch.testing.assert_close(model(ids, text), twin(ids, text), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("layer", range(1, LAYERS))
@torch.no_grad()
def test_residual_transformer_says_the_same(tmp_path, layer):
    twin, model = rough(TwinResidual()), residual()
    load_residual_transformer(model, saved(tmp_path / "a.tar", twin.state_dict(), "res_transformer"))
    ids, text = torch.randint(CODES, (2, 9, LAYERS)), torch.randn(2, TEXT)
    torch.testing.assert_close(model(ids, layer, text), twin(ids, layer, text), atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_length_estimator_says_the_same(tmp_path):
    twin, model = rough(twin_estimator()), estimator()
    load_length_estimator(model, saved(tmp_path / "a.tar", twin.state_dict(), "estimator"))
    text = torch.randn(5, TEXT)
    torch.testing.assert_close(model(text), twin.output(text))


def test_weights_that_do_not_fit(tmp_path):
    file, state = tmp_path / "a.tar", TwinMasked().state_dict()
    joined = "seqTransEncoder.layers.0.self_attn.in_proj_bias"
    for changed, model, message in (
        ({}, masked(num_layers=BLOCKS + 1), r"a\.tar must hold the weights of this ControlMMTransformer and no others, "
         r"but lacks 14 of them, such as 'trunk\.layers\.3\.attention\.to_kv\.bias'\."),
        ({}, masked(num_layers=BLOCKS - 1), r"but also holds 'trunk\.layers\.2\.attention\.to_kv\.bias'\."),
        ({}, masked(num_codes=CODES + 1), r"^'head\.3\.weight' from .* must be \[8, 8\] for this .*, not \[7, 8\]\."),
        ({"extra.weight": torch.ones(1)}, masked(), r"but also holds 'extra\.weight'\."),
        ({"cond_emb.bias": torch.full((DIM,), torch.nan)}, masked(), r"^'text_in\.bias' from .* must be finite"),
        ({"cond_emb.bias": torch.ones(DIM, dtype=int)}, masked(), r"^'cond_emb\.bias' of .* must be a dense tensor"),
        ({"cond_emb.bias": torch.ones(DIM).to_sparse()}, masked(), r"asks for torch\._utils\._rebuild_sparse_tensor"),
        ({"cond_emb.bias": 3}, masked(), r"^'cond_emb\.bias' of .*a\.tar must be a dense tensor"),
        ({"cond_emb.bias": torch.ones(1).expand(10**12)}, masked(),
         r"^'cond_emb\.bias' of .* must have a number of its own for each of \[10{12}\]\."),
        ({joined: torch.tensor(1.0)}, masked(), r"but lacks 2 of them, such as 'trunk\.layers\.0\.attention"),
        ({joined: torch.ones(7)}, masked(), r"must be \[8\] for this ControlMMTransformer, not \[2\]\."),
    ):  # fmt: skip
        before = {name: value.clone() for name, value in model.state_dict().items()}
        with pytest.raises(ValueError, match=message):
            load_transformer(model, saved(file, state | changed, "trans"))
        assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    books = TwinAutoencoder().state_dict()
    del books["quantizer.layers.1.codebook"]
    with pytest.raises(ValueError, match=r"but also holds 'quantizer\.layers\.3\.codebook'\."):
        load_autoencoder(autoencoder(), saved(file, books, "net"))
    books["quantizer.layers.1.codebook"] = torch.ones(2, 3)
    with pytest.raises(ValueError, match=r"but lacks 2 of them, such as 'quantizer\.codebooks'\."):
        load_autoencoder(autoencoder(), saved(file, books, "net"))


class Trap:
    def __init__(self, folder):
        self.folder = str(folder)

    def __reduce__(self):
        return (os.mkdir, (self.folder,))


def test_files_that_are_refused(tmp_path):
    file, state = tmp_path / "a.tar", TwinMasked().state_dict()

    def refuse(message):
        with pytest.raises((ValueError, FileNotFoundError), match=message) as error:
            read_state(file, ("t2m_transformer", "trans"))
        assert "\n" not in str(error.value) and len(str(error.value)) < 500

    refuse(r"there is no file at .*a\.tar'\.")
    saved(file, state, "net")
    refuse(r"a\.tar must hold an entry 't2m_transformer' or 'trans'; its entries are: ep, net, scheduler, total_it\.")
    saved(file, [state], "trans")
    refuse(r"entry 'trans' of .*a\.tar must map names to tensors, not be a list\.")
    saved(file, {3: torch.ones(1)}, "trans")
    refuse(r"entry 'trans' of .*a\.tar must map names to tensors")
    torch.save([state], file)
    refuse(r"a\.tar must hold an entry 't2m_transformer' or 'trans'; its entries are: none\.")
    kind = r"a\.tar' must be a file of state dicts that torch\.save has written, but "
    saved(file, state, "trans", ep=Trap(tmp_path / "trap"))
    refuse(kind + r"its pickle asks for posix\.mkdir, which is no tensor\.")
    assert not (tmp_path / "trap").exists()
    torch.save({"trans": state}, file, _use_new_zipfile_serialization=False)
    refuse(kind + "it is no whole zip archive")
    saved(file, state, "trans")
    with zipfile.ZipFile(file) as whole, zipfile.ZipFile(tmp_path / "b.tar", "w", zipfile.ZIP_DEFLATED) as squeezed:
        for name in whole.namelist():
            squeezed.writestr(name, whole.read(name))
    file.write_bytes((tmp_path / "b.tar").read_bytes())
    refuse(kind + "its entries are compressed")


def test_codebooks_of_one_number_each_are_not_stacked(tmp_path):
    books = {f"quantizer.layers.{layer}.codebook": torch.ones(1, 1).expand(10**6, 10**6) for layer in range(6)}
    with pytest.raises(ValueError, match=r"^'quantizer\.layers\.0\.codebook' of .* a number of its own for each of"):
        read_state(saved(tmp_path / "a.tar", books, "net"), ("net",))


def test_thousand_damaged_files_are_read_or_refused(tmp_path):
    file = saved(tmp_path / "a.tar", {"a": torch.ones(40), "b": torch.ones(3, 4)}, "trans")
    whole, read = file.read_bytes(), 0
    for seed in range(1000):
        file.write_bytes(damaged(whole, np.random.default_rng(seed)))
        try:
            state = read_state(file, ("trans",))
        except ValueError as error:
            assert str(file) in str(error) and "\n" not in str(error)
            continue
        read += 1
        assert all(isinstance(name, str) and value.is_floating_point() for name, value in state.items())
    assert read < 900
