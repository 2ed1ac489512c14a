"""What ControlMMPipeline computes, on tiny real components; what all pipelines promise is in `tests/contracts`."""

import pytest
import torch
from contract_cases import seeded
from tiny_controlmm import PIPELINES, make_pipeline

from pocket_diffusers.pipelines.motion.motion_controls import MotionControls
from pocket_diffusers.pipelines.motion.motion_features import joints_of_features
from pocket_diffusers.pipelines.motion.motion_objectives import AvoidSpheres
from pocket_diffusers.pipelines.motion.motion_optimization import OPTIMIZATIONS, OptimizationSteps
from pocket_diffusers.pipelines.pipeline_controlmm import ControlMMPipeline
from pocket_diffusers.pipelines.repository import save_repository

WALK, JUMP, WAVE = PIPELINES["text-to-motion"].values
FEW = OptimizationSteps(3, 10)


@pytest.fixture(scope="module")
def pipeline():
    return make_pipeline()


def held(frames=40, joint=0, place=(0.3, 1.0, 0.4), at=(10, 30)):
    targets, mask = torch.zeros(frames, 22, 3), torch.zeros(frames, 22, dtype=torch.bool)
    targets[list(at), joint], mask[list(at), joint] = torch.tensor(place).float(), True
    return MotionControls(targets, mask)


def motions(pipeline, *prompts, **arguments):
    options = {"length": 40, "num_inference_steps": 3, "optimization": FEW, **arguments}
    options.setdefault("generator", seeded(*range(len(prompts))))
    return pipeline(list(prompts), **options)


def assert_close(ours, theirs, atol=1e-4):
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, atol=atol, rtol=0)


def test_motions_are_joints_features_and_contacts_of_each_length(pipeline):
    made = motions(pipeline, WALK, JUMP, length=[40, 57])
    assert [joints.shape for joints in made.joints] == [(40, 22, 3), (57, 22, 3)]
    for joints, features, contacts in zip(made.joints, made.features, made.contacts, strict=True):
        torch.testing.assert_close(joints, joints_of_features(features))
        assert torch.equal(contacts, features[:, 259:].clamp(0, 1)) and joints.dtype == torch.float32


def test_a_seed_gives_one_controlled_motion_and_another_seed_another(pipeline):
    first, again, other = (motions(pipeline, WALK, controls=held(), generator=seeded(seed)) for seed in (4, 4, 5))
    assert torch.equal(first.features[0], again.features[0])
    assert not torch.allclose(first.joints[0], other.joints[0], atol=1e-3)


def test_lengths_are_drawn_in_range_and_by_the_estimator(pipeline):
    made = motions(pipeline, *[WALK] * 30, length=None, num_inference_steps=1)
    lengths = {len(joints) for joints in made.joints}
    assert len(lengths) > 5 and all(20 <= n <= 196 and n % 4 == 0 for n in lengths)
    sure = make_pipeline()
    last = sure.length_estimator.layers[-1]
    last.weight.data.zero_()
    last.bias.data.copy_(50.0 * (torch.arange(50) == 12) + 100.0 * (torch.arange(50) == 3))  # 3 tokens are too few
    assert [len(joints) for joints in motions(sure, WALK, JUMP, length=None).joints] == [48, 48]


def test_free_decoding_follows_its_equations(pipeline):
    """One step by hand: the likeliest tenth of the guided logits plus the seed's Gumbel noise, layer by layer."""
    with torch.no_grad():
        text = pipeline.encode_prompt(WALK)
        seed = int(torch.randint(2**62, (), generator=torch.Generator().manual_seed(7)))
        generator = torch.Generator().manual_seed(seed)
        masks = torch.full((1, 10), 20)
        transformer, residual = pipeline.transformer, pipeline.residual_transformer

        def chosen(free, told, scale):
            logits = free + scale * (told - free)
            lowest = logits.sort(-1, descending=True).values[..., 1:2]  # 2 of 20 codes stay
            uniform = torch.rand(10, 20, generator=generator, dtype=torch.float64)
            return torch.where(logits < lowest, -torch.inf, logits - (-uniform.log()).log()).argmax(-1)

        codes = torch.zeros(1, 10, 3, dtype=torch.long)
        codes[..., 0] = chosen(transformer(masks, 0 * text), transformer(masks, text), 4.0)
        for layer in (1, 2):
            codes[..., layer] = chosen(residual(codes, layer, 0 * text), residual(codes, layer, text), 5.0)
        features = pipeline.autoencoder.denormalized(pipeline.autoencoder.decode_ids(codes))
    made = motions(pipeline, WALK, num_inference_steps=1, generator=seeded(7))
    torch.testing.assert_close(made.features[0], features[0], atol=1e-5, rtol=1e-5)


def test_residual_guidance_up_to_1_is_none(pipeline):
    off = motions(pipeline, WALK, residual_guidance_scale=0.0)
    assert torch.equal(motions(pipeline, WALK, residual_guidance_scale=1.0).joints[0], off.joints[0])
    assert not torch.allclose(motions(pipeline, WALK).joints[0], off.joints[0], atol=1e-3)


def error(joints, controls):
    return (joints - controls.targets)[controls.mask].norm(dim=-1).mean().item()


@pytest.mark.parametrize("branch", [True, False])
def test_optimisation_moves_controlled_joints_to_their_targets(pipeline, branch):
    ours, controls = pipeline if branch else make_pipeline(control_branch=None), held()

    def away(steps, each, last):
        options = {"num_inference_steps": steps, "optimization": OptimizationSteps(each, last)}
        return error(motions(ours, JUMP, controls=controls, **options).joints[0], controls)

    assert away(3, 0, 200) < 0.02 < 0.5 < away(3, 0, 0)
    assert away(1, 300, 0) < 0.9 * away(1, 0, 0), "logits alone, before the codes of other layers are added"


def test_a_target_at_the_origin_counts(pipeline):
    controls = held(place=(0.0, 0.0, 0.0))
    steps = OptimizationSteps(0, 150)
    free = motions(pipeline, WALK).joints[0]
    made = motions(pipeline, WALK, controls=controls, optimization=steps).joints[0]
    assert error(made, controls) < 0.3 * error(free, controls)


def test_the_branch_is_told_of_targets_of_its_joints(pipeline):
    def made(joint, place):
        return motions(
            pipeline, WALK, controls=held(joint=joint, place=place), optimization=OptimizationSteps(0, 0)
        ).joints[0]

    assert not torch.allclose(made(0, (0, 1, 0)), made(0, (1, 1, 2)), atol=1e-5)
    assert torch.equal(made(18, (0, 1, 0)), made(18, (1, 1, 2))), "it has no channels for elbows"


def test_an_objective_alone_is_met(pipeline):
    arguments = {"optimization": OptimizationSteps(0, 100)}
    start = motions(pipeline, WALK, objective=lambda j, v: 0 * j.sum((1, 2, 3)), **arguments).joints[0]
    sphere = AvoidSpheres(start[20:21, 0], [0.5])
    away = motions(pipeline, WALK, objective=sphere, **arguments).joints[0]
    assert sphere(away[None]).item() < 0.3 * sphere(start[None]).item()
    seen = []

    def watching(joints, valid):
        seen.append((joints.shape, valid.sum(1).tolist()))
        return joints[:, :, 0].square().sum((1, 2))

    motions(pipeline, WALK, JUMP, length=[41, 50], objective=watching, optimization=OptimizationSteps(0, 1))
    assert seen == [((2, 50, 22, 3), [41, 50])]


def test_presets_of_optimisation_are_the_paper_s_and_quicker_ones(pipeline):
    assert OPTIMIZATIONS["accurate"] == OptimizationSteps(100, 600) and OPTIMIZATIONS["fast"] == OptimizationSteps(
        0, 100
    )
    fast = motions(pipeline, WALK, controls=held(), optimization="fast")
    assert torch.equal(
        fast.joints[0], motions(pipeline, WALK, controls=held(), optimization=OptimizationSteps(0, 100)).joints[0]
    )


def test_a_callback_sees_the_steps_of_free_clips_and_then_of_controlled_ones(pipeline):
    steps = []

    def on_step(pipe, step, timestep, tensors):
        shapes = {name: tuple(value.shape) for name, value in tensors.items()}
        steps.append((step, timestep, pipe.num_timesteps, shapes))
        return tensors

    arguments = {"controls": [None, held()], "callback_on_step_end_tensor_inputs": ["logits", "tokens"]}
    plain = motions(pipeline, WALK, JUMP, controls=[None, held()])
    watched = motions(pipeline, WALK, JUMP, callback_on_step_end=on_step, **arguments)
    assert steps == [(i, i, 6, {"logits": (1, 10, 20), "tokens": (1, 10, 8)}) for i in range(6)]
    assert all(torch.equal(a, b) for a, b in zip(plain.joints, watched.joints, strict=True))


def test_a_callback_replaces_the_logits_of_a_controlled_motion(pipeline):
    """With certain logits at the end the first code is that one, whatever was found."""

    def certain(pipe, step, timestep, tensors):
        return {"logits": torch.nn.functional.one_hot(torch.full((1, 10), 7), 20) * 100.0}

    arguments = {"controls": held(), "optimization": OptimizationSteps(0, 0), "num_inference_steps": 1}
    decoded = []
    hook = pipeline.residual_transformer.register_forward_pre_hook(lambda module, inputs: decoded.append(inputs[0]))
    motions(pipeline, WALK, callback_on_step_end=certain, **arguments)
    hook.remove()
    assert decoded[0][..., 0].eq(7).all()


def test_a_callback_replaces_what_the_next_step_sees(pipeline):
    def forget(pipe, step, timestep, tensors):
        return {name: 0 * value for name, value in tensors.items()}

    names, seen = ["tokens", "prompt_embeds"], []
    hook = pipeline.transformer.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[:2]))
    motions(
        pipeline, WALK, callback_on_step_end=forget, callback_on_step_end_tensor_inputs=names, num_inference_steps=2
    )
    hook.remove()
    (_, first), (tokens, second) = seen
    masked = pipeline.transformer.token_embedding.weight[pipeline.transformer.mask_id]
    assert first.any() and not second.any()
    assert sorted({tuple(row) for row in tokens[0].tolist()}) == sorted([tuple(masked.tolist()), (0.0,) * 8])


def test_embeddings_stand_for_prompts_and_copies_stand_side_by_side(pipeline):
    with torch.no_grad():
        embeds = pipeline.encode_prompt([WALK, JUMP])
    options = {"length": [40, 48], "num_inference_steps": 2, "num_motions_per_prompt": 2}
    said = pipeline([WALK, JUMP], generator=seeded(0, 1, 2, 3), **options)
    given = pipeline(prompt_embeds=embeds, generator=seeded(0, 1, 2, 3), **options)
    assert [len(joints) for joints in said.joints] == [40, 40, 48, 48]
    assert all(torch.equal(a, b) for a, b in zip(said.joints, given.joints, strict=True))
    alone = motions(pipeline, JUMP, length=48, num_inference_steps=2, generator=seeded(3))
    assert_close(alone.joints, said.joints[3:])


def test_a_pipeline_without_what_it_can_do_without_is_saved(tmp_path):
    missing = ("control_branch", "length_estimator", "text_encoder", "tokenizer")
    make_pipeline(**dict.fromkeys(missing)).save_pretrained(tmp_path)
    stored = ControlMMPipeline.from_pretrained(tmp_path)
    assert all(getattr(stored, name) is None for name in missing)


def test_a_repository_of_half_precision_is_near(pipeline, tmp_path):
    save_repository(pipeline, tmp_path / "controlmm-nano")
    stored = ControlMMPipeline.from_pretrained(tmp_path / "controlmm-nano")
    torch.testing.assert_close(stored.autoencoder.std, pipeline.autoencoder.std, rtol=1e-3, atol=0)
    assert stored.autoencoder.dtype == torch.float32


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_makes_finite_controlled_motions(dtype):
    made = motions(make_pipeline().to(dtype), WALK, controls=held())
    assert all(joints.isfinite().all() and joints.dtype == torch.float32 for joints in made.joints)


@pytest.mark.parametrize(
    ("objective", "sentence"),
    [
        (lambda joints, valid: joints.mean(), r"must be a loss a clip, \[1\], not \[\]\.$"),
        (lambda joints, valid: torch.zeros(1), r"^objective must be a loss through which gradients"),
        (lambda joints, valid: joints.sum((1, 2, 3)) * torch.nan, r"^objective must have a finite grad"),
    ],
)
def test_an_objective_that_is_no_loss_of_clips_is_refused(pipeline, objective, sentence):
    with pytest.raises(ValueError, match=sentence):
        motions(pipeline, WALK, objective=objective, num_inference_steps=1)


def test_steps_of_optimisation_are_whole_numbers():
    with pytest.raises(ValueError, match=r"^last must be a whole number of at least 0, not -1\.$"):
        OptimizationSteps(0, -1)


def test_what_is_missing_must_be_given():
    bare = make_pipeline(length_estimator=None, text_encoder=None, tokenizer=None)
    with pytest.raises(
        ValueError, match=r"^this pipeline has no text encoder: pass prompt_embeds instead of prompt\.$"
    ):
        bare(WALK, length=40)
    with pytest.raises(ValueError, match=r"^this pipeline has no length estimator: pass length\.$"):
        bare(prompt_embeds=torch.zeros(1, 12))
    assert len(bare(prompt_embeds=torch.zeros(1, 12), controls=held(), optimization=FEW).joints[0]) == 40
