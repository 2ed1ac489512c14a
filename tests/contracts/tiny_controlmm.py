"""ControlMM's pipeline, tiny and real."""

import torch
from little_texts import make_tokenizer
from transformers import CLIPTextConfig, CLIPTextModelWithProjection

from pocket_diffusers.hub_models.autoencoder_controlmm import MotionRVQVAE
from pocket_diffusers.hub_models.control_branch_controlmm import ControlMMControlBranch
from pocket_diffusers.hub_models.length_estimator_controlmm import ControlMMLengthEstimator
from pocket_diffusers.hub_models.transformer_controlmm import ControlMMResidualTransformer, ControlMMTransformer
from pocket_diffusers.pipelines.pipeline_controlmm import ControlMMPipeline

TRUNK = {"width": 16, "num_layers": 2, "num_heads": 2, "ff_width": 32, "dropout": 0.0}
CODES = {"num_codes": 20, "code_width": 8, "text_width": 12}
NAMES = ("autoencoder", "transformer", "residual_transformer", "control_branch", "length_estimator", "text_encoder")


def make_components():
    torch.manual_seed(0)
    autoencoder = MotionRVQVAE(
        width=16, depth=1, dropout=0.0, num_quantizers=3, num_codes=20, code_width=8
    )  # fmt: skip
    for parameter in autoencoder.decoder.parameters():  # so that codes move a body about
        parameter.data *= 1.5
    std = torch.full((263,), 0.3)
    std[0], std[1:3] = 0.02, 0.1
    mean = torch.zeros(263)
    mean[3] = 0.9
    autoencoder.set_statistics(mean, std)
    transformer = ControlMMTransformer(**CODES, **TRUNK)
    residual = ControlMMResidualTransformer(num_quantizers=3, **CODES, **TRUNK)
    for module in (transformer, residual):  # of new weights every token is alike
        for parameter in module.parameters():
            parameter.data += 0.1 * torch.randn(parameter.shape)
    branch = ControlMMControlBranch.from_transformer(transformer, dropout=0.0, conv_width=8, conv_depth=1)
    for parameter in branch.parameters():
        parameter.data += 0.1 * torch.randn(parameter.shape)
    tokenizer = make_tokenizer()
    encoder = CLIPTextModelWithProjection(
        CLIPTextConfig(
            vocab_size=len(tokenizer), hidden_size=16, intermediate_size=32, num_hidden_layers=1,
            num_attention_heads=2, max_position_embeddings=16, projection_dim=12, pad_token_id=0, bos_token_id=1,
            eos_token_id=tokenizer.eos_token_id,
        )
    )  # fmt: skip
    estimator = ControlMMLengthEstimator(text_width=12, width=16)
    modules = (autoencoder, transformer, residual, branch, estimator, encoder)
    return dict(
        zip(
            NAMES,
            (module.eval() for module in modules), strict=True,
        )
    ) | {"tokenizer": tokenizer}  # fmt: skip


def make_pipeline(**changes):
    pipeline = ControlMMPipeline(**{**make_components(), **changes})
    pipeline.set_progress_bar_config(disable=True)
    return pipeline
