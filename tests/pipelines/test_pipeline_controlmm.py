"""What ControlMMPipeline computes, on tiny real components."""

import numpy as np
import pytest
import torch
from contract_cases import seeded
from tiny_controlmm import CODES, TRUNK, make_pipeline

from pocket_diffusers.hub_models.autoencoder_controlmm import MotionRVQVAE
from pocket_diffusers.hub_models.control_branch_controlmm import ControlMMControlBranch
from pocket_diffusers.hub_models.length_estimator_controlmm import ControlMMLengthEstimator
from pocket_diffusers.hub_models.transformer_controlmm import ControlMMResidualTransformer, ControlMMTransformer
from pocket_diffusers.pipelines import METHODS
from pocket_diffusers.pipelines.motion.motion_controls import MotionControls
from pocket_diffusers.pipelines.motion.motion_features import joints_of_features
from pocket_diffusers.pipelines.motion.motion_objectives import AvoidSpheres
from pocket_diffusers.pipelines.motion.motion_optimization import OPTIMIZATIONS, OptimizationSteps
from pocket_diffusers.pipelines.pipeline_controlmm import ControlMMPipeline
from pocket_diffusers.pipelines.repository import save_repository

WALK, JUMP, WAVE = "a red cube", "two blue spheres", "a green cone"
FEW = OptimizationSteps(3, 10)


@pytest.fixture(scope="module")
def pipeline():
    return make_pipeline()


@pytest.fixture
def registered(monkeypatch):
    monkeypatch.setitem(METHODS, "controlmm", {"text-to-motion": "pipeline_controlmm:ControlMMPipeline"})


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
    assert made.controls is None and not torch.allclose(made.joints[0], made.joints[1][:40], atol=1e-2)
    arrays = motions(pipeline, WALK, JUMP, length=[40, 57], output_type="np", return_dict=False)
    assert len(arrays) == 3 and all(isinstance(array, np.ndarray) for array in arrays[0])
    np.testing.assert_array_equal(arrays[1][1], made.features[1].numpy())


@pytest.mark.parametrize("controls", [None, held()])
def test_a_seed_gives_one_motion_and_another_seed_another(pipeline, controls):
    first, again = (motions(pipeline, WALK, controls=controls, generator=seeded(4)) for _ in range(2))
    assert torch.equal(first.features[0], again.features[0])
    other = motions(pipeline, WALK, controls=controls, generator=seeded(5))
    assert not torch.allclose(first.joints[0], other.joints[0], atol=1e-3)


def test_a_motion_is_the_same_whatever_its_batch(pipeline):
    """Free, controlled and of estimated length side by side, with padding of others' lengths behind them."""
    controls = [None, held(), None, held(60, 21, at=(3, 59))]
    arguments = {"controls": controls, "length": [44, None, None, None], "generator": seeded(*range(4))}
    together = motions(pipeline, WALK, JUMP, WAVE, JUMP, **arguments)
    for i, prompt in enumerate((WALK, JUMP, WAVE, JUMP)):
        alone = motions(pipeline, prompt, controls=controls[i], length=arguments["length"][i], generator=seeded(i))
        assert_close(alone.joints, together.joints[i : i + 1])
    assert together.controls == controls and [len(j) for j in together.joints][:2] == [44, 40]
    one = motions(pipeline, WALK, JUMP, generator=torch.Generator().manual_seed(3))
    assert_close(motions(pipeline, WALK, generator=torch.Generator().manual_seed(3)).joints, one.joints[:1])


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


def test_guidance_up_to_1_is_none(pipeline):
    off = motions(pipeline, WALK, guidance_scale=0.0, residual_guidance_scale=0.0)
    assert torch.equal(
        motions(pipeline, WALK, guidance_scale=1.0, residual_guidance_scale=1.0).joints[0], off.joints[0]
    )
    assert not torch.allclose(motions(pipeline, WALK).joints[0], off.joints[0], atol=1e-3)


def error(joints, controls):
    return (joints - controls.targets)[controls.mask].norm(dim=-1).mean().item()


@pytest.mark.parametrize("branch", [True, False])
def test_optimisation_moves_controlled_joints_to_their_targets(pipeline, branch):
    ours, controls = pipeline if branch else make_pipeline(control_branch=None), held()

    def away(steps, each, last):
        options = {"num_inference_steps": steps, "optimization": OptimizationSteps(each, last)}
        return error(motions(ours, WALK, controls=controls, **options).joints[0], controls)

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


def test_a_callback_sees_each_step_and_may_stop_or_change(pipeline):
    steps = []

    def on_step(pipe, step, timestep, tensors):
        steps.append(
            (step, timestep, pipe.num_timesteps, {name: tuple(value.shape) for name, value in tensors.items()})
        )
        return tensors

    arguments = {"callback_on_step_end": on_step, "controls": [None, held()]}
    plain = motions(pipeline, WALK, JUMP, controls=[None, held()])
    watched = motions(pipeline, WALK, JUMP, callback_on_step_end_tensor_inputs=["logits", "tokens"], **arguments)
    shapes = {"logits": (1, 10, 20), "tokens": (1, 10, 8)}
    assert steps == [(i, i, 6, shapes) for i in range(6)]
    assert all(torch.equal(a, b) for a, b in zip(plain.joints, watched.joints, strict=True))

    def stop(pipe, step, timestep, tensors):
        steps.append(step)
        pipe._interrupt = True
        assert pipe.interrupt

    steps.clear()
    motions(pipeline, WALK, callback_on_step_end=stop)
    assert steps == [0]

    def forget(pipe, step, timestep, tensors):
        return {"prompt_embeds": 0 * tensors["prompt_embeds"]}

    names = {"callback_on_step_end": forget, "callback_on_step_end_tensor_inputs": ["prompt_embeds"]}
    assert not torch.allclose(motions(pipeline, WALK, **names).joints[0], motions(pipeline, WALK).joints[0], atol=1e-3)


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


def test_a_saved_pipeline_makes_the_same_motions(pipeline, tmp_path):
    pipeline.save_pretrained(tmp_path / "whole")
    stored = ControlMMPipeline.from_pretrained(tmp_path / "whole")
    stored.set_progress_bar_config(disable=True)
    for controls in (None, held()):
        ours, theirs = (motions(p, WALK, controls=controls).features[0] for p in (pipeline, stored))
        assert torch.equal(ours, theirs)
    bare = make_pipeline(control_branch=None, length_estimator=None, text_encoder=None, tokenizer=None)
    bare.save_pretrained(tmp_path / "bare")
    assert ControlMMPipeline.from_pretrained(tmp_path / "bare").control_branch is None


def test_a_repository_of_half_precision_is_near(pipeline, registered, tmp_path):
    save_repository(pipeline, tmp_path / "controlmm-nano")
    stored = ControlMMPipeline.from_pretrained(tmp_path / "controlmm-nano")
    torch.testing.assert_close(stored.autoencoder.std, pipeline.autoencoder.std, rtol=1e-3, atol=0)
    assert stored.autoencoder.dtype == torch.float32


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_makes_finite_motions(dtype):
    made = motions(make_pipeline().to(dtype), WALK, JUMP, controls=[held(), None])
    assert all(joints.isfinite().all() and joints.dtype == torch.float32 for joints in made.joints)


def far():
    return held(60, at=(55,))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"prompt": None}, r"^pass either prompt or prompt_embeds\.$"),
        ({"prompt_embeds": torch.zeros(1, 12)}, r"^pass either prompt or prompt_embeds, not both\.$"),
        ({"prompt": None, "prompt_embeds": torch.zeros(1, 5)}, r"^prompt_embeds must be a tensor \[prompts, 12\], not"),
        ({"prompt": 3}, r"^prompt must be a string or a list of strings .*, not 3\.$"),
        ({"prompt": [WALK, " "]}, r"^prompt \(entry 1\) is empty: describe the motion in words\.$"),
        ({"length": 19}, r"^length must be 20 to 196 frames, not 19\.$"),
        ({"length": 197}, r"^length must be 20 to 196 frames, not 197\.$"),
        ({"length": [40, 40]}, r"^length is a list of 2, but there are 1 prompts\.$"),
        ({"length": 40.0}, r"^length must be int, a list of them or None, not 40\.0\.$"),
        ({"length": True}, r"^length must be int, a list of them or None, not True\.$"),
        ({"controls": far()}, r"^length must be more than 55, the last frame that is controlled"),
        ({"controls": held(10, at=(5,)), "length": None}, r"^length must be 20 to 196 frames, not 10\.$"),
        ({"controls": torch.zeros(3)}, r"^controls must be MotionControls, a list of them or None, not "),
        ({"controls": [held(), None]}, r"^controls is a list of 2, but there are 1 prompts\.$"),
        ({"objective": 3}, r"^objective must be a callable of joints and valid frames, not 3\.$"),
        ({"objective": lambda joints, valid: joints.mean()}, r"must be a loss a clip, \[1\], not \[\]\.$"),
        ({"objective": lambda joints, valid: torch.zeros(1)}, r"^objective must be a loss through which gradients"),
        ({"objective": lambda joints, valid: joints.sum((1, 2, 3)) * torch.nan}, r"^objective must have a finite grad"),
        ({"optimization": "slow"}, r"^optimization must be one of fast, balanced, accurate, not 'slow'\.$"),
        ({"num_inference_steps": 0}, r"^num_inference_steps must be a whole number of at least 1, not 0\.$"),
        ({"num_motions_per_prompt": 0}, r"^num_motions_per_prompt must be a whole number of at least 1, not 0\.$"),
        ({"guidance_scale": -1}, r"^guidance_scale must be a number of at least 0, not -1\.$"),
        ({"residual_guidance_scale": float("nan")}, r"^residual_guidance_scale must be a number of at least 0"),
        ({"output_type": "pil"}, r"^output_type must be one of np, pt, not 'pil'\.$"),
        ({"generator": seeded(0, 1)}, r"^generator is a list of 2, but 1 samples are asked for"),
        (
            {"callback_on_step_end": print, "callback_on_step_end_tensor_inputs": ["latents"]},
            r"^callback_on_step_end_tensor_inputs must be one of logits, tokens, prompt_embeds, not 'latents'\.$",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_refused_in_a_sentence(pipeline, arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        pipeline(**{"prompt": WALK, "length": 40, "num_inference_steps": 1, "optimization": FEW, **arguments})


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


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"tokenizer": None}, "text_encoder needs its tokenizer: pass both or neither."),
        ({"transformer": ControlMMTransformer(**CODES | {"num_codes": 9}, **TRUNK)}, "transformer.num_codes must"),
        (
            {"residual_transformer": ControlMMResidualTransformer(num_quantizers=4, **CODES, **TRUNK)},
            "residual_transformer.num_quantizers must be 3",
        ),
        ({"length_estimator": ControlMMLengthEstimator(text_width=9)}, "length_estimator.text_width must be 12"),
        (
            {"control_branch": ControlMMControlBranch(width=16, num_layers=3, num_heads=2)},
            "control_branch.num_layers must be 2",
        ),
        (
            {"autoencoder": MotionRVQVAE(features=251, width=8, num_codes=20, num_quantizers=3)},
            "autoencoder.features must be 263",
        ),
    ],
)  # fmt: skip
def test_components_that_do_not_fit_are_refused(changes, sentence):
    with pytest.raises(ValueError, match=sentence):
        make_pipeline(**changes)
