"""Text to human motion, with any joint held at any place at any frame (ControlMM, arXiv 2410.10780)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from diffusers import DiffusionPipeline
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers import CLIPTextModelWithProjection, PreTrainedTokenizerBase

from ..hub_models.autoencoder_controlmm import MotionRVQVAE
from ..hub_models.control_branch_controlmm import ControlMMControlBranch
from ..hub_models.layers.padding import padding_behind
from ..hub_models.layers.residual_vq import NO_CODE
from ..hub_models.length_estimator_controlmm import ControlMMLengthEstimator
from ..hub_models.transformer_controlmm import ControlMMResidualTransformer, ControlMMTransformer
from .inputs import check_choice, check_count, check_number, require
from .motion.motion_controls import MotionControls, batched, control_features
from .motion.motion_features import CONTACTS, NUM_FEATURES, joints_of_features
from .motion.motion_objectives import ControlTargets, Objective, ObjectiveSum
from .motion.motion_optimization import OPTIMIZATIONS, OptimizationSteps, optimized
from .outputs import MotionOutput
from .repository import RepositoryMixin
from .sampling.defaults import SamplingDefaults
from .sampling.latent_sampling import Callback, watched_tensors
from .sampling.masked_decoding import CERTAIN, draw_gumbel, keep_likeliest, least_certain, masked_counts
from .sampling.noise import Generators, check_generator, own_generators
from .sampling.prompted import TOKENIZING, Texts, listed
from .sampling.running_call import CallStateMixin

SHORTEST, LONGEST = 20, 196
LIKELIEST = 0.1  # of the codes, among which is drawn where nothing is controlled (MoMask, arXiv 2312.00063)
OUTPUT_TYPES = ("np", "pt")


@dataclass
class Clips:
    """What is asked of clips that are made side by side: all of them are controlled, or none.

    Attributes:
        rows: their places in the batch of the call.
        first_step: steps of the call before theirs.
        text: embeddings of the prompts [batch, width].
        lengths: frames of each clip.
        padding: True at tokens behind the end of a clip [batch, tokens].
        generators: of noise, one a clip.
        controls: what each clip must do, None where nothing is controlled.
    """

    rows: list[int]
    first_step: int
    text: Float[Tensor, "batch width"]
    lengths: list[int]
    padding: Bool[Tensor, "batch tokens"]
    generators: list[torch.Generator]
    controls: "Controls | None"


@dataclass
class Controls:
    """What controlled clips must do.

    Attributes:
        targets: of joints, in metres [batch, tokens * frames a token, 22, 3]; None for an objective alone.
        mask: where they count, [batch, tokens * frames a token, 22].
        valid: True at frames of the clip [batch, frames].
        objective: loss of each clip's joints [batch, frames, 22, 3]; the targets are in it.
    """

    targets: Float[Tensor, "batch padded_frames 22 3"] | None
    mask: Bool[Tensor, "batch padded_frames 22"] | None
    valid: Bool[Tensor, "batch frames"]
    objective: Objective


class ControlMMPipeline(RepositoryMixin, CallStateMixin, DiffusionPipeline):
    """Text to motion of a person: 22 joints, 20 frames a second, in metres.

    Args:
        autoencoder: motion as codes, and the statistics by which it is normalised.
        transformer: finds the codes of the first layer.
        residual_transformer: those of the others.
        control_branch: tells the transformer of wanted joints; None where nothing but optimisation controls.
        length_estimator: how long a prompt's motion is; None where every call says it.
        text_encoder: CLIP's, whose projected embedding the transformers take; None where calls bring `prompt_embeds`.
        tokenizer: its tokenizer.

    Raises:
        ValueError: components that do not fit together.
    """

    defaults: ClassVar = SamplingDefaults(num_inference_steps=10, guidance_scale=4.0)
    model_cpu_offload_seq = (
        "text_encoder->length_estimator->control_branch->transformer->residual_transformer->autoencoder"
    )
    _optional_components: ClassVar[list[str]] = ["control_branch", "length_estimator", "text_encoder", "tokenizer"]
    _callback_tensor_inputs: ClassVar[list[str]] = ["logits", "tokens", "prompt_embeds"]

    def __init__(
        self,
        autoencoder: MotionRVQVAE,
        transformer: ControlMMTransformer,
        residual_transformer: ControlMMResidualTransformer,
        control_branch: ControlMMControlBranch | None = None,
        length_estimator: ControlMMLengthEstimator | None = None,
        text_encoder: CLIPTextModelWithProjection | None = None,
        tokenizer: PreTrainedTokenizerBase | None = None,
    ) -> None:
        super().__init__()
        self.register_modules(
            autoencoder=autoencoder, transformer=transformer, residual_transformer=residual_transformer,
            control_branch=control_branch, length_estimator=length_estimator, text_encoder=text_encoder,
            tokenizer=tokenizer,
        )  # fmt: skip
        self._check_components()

    def encode_prompt(self, prompt: Texts, num_motions_per_prompt: int = 1) -> Float[Tensor, "batch width"]:
        """Embeddings of prompts, each `num_motions_per_prompt` times, side by side.

        Raises:
            ValueError: when the pipeline has no text encoder.
        """
        if self.text_encoder is None:
            raise ValueError("this pipeline has no text encoder: pass prompt_embeds instead of prompt.")
        with TOKENIZING:
            tokens = self.tokenizer(
                listed(prompt), padding="max_length", max_length=self.text_encoder.config.max_position_embeddings,
                truncation=True, return_tensors="pt",
            )  # fmt: skip
        embeds = self.text_encoder(tokens.input_ids.to(self._execution_device)).text_embeds
        return embeds.repeat_interleave(num_motions_per_prompt, 0)

    @torch.no_grad()
    def __call__(
        self,
        prompt: Texts | None = None,
        length: int | list[int | None] | None = None,
        controls: MotionControls | Sequence[MotionControls | None] | None = None,
        objective: Objective | None = None,
        optimization: str | OptimizationSteps = "fast",
        num_inference_steps: int = defaults.num_inference_steps,
        guidance_scale: float = defaults.guidance_scale,
        residual_guidance_scale: float = 5.0,
        num_motions_per_prompt: int = 1,
        generator: Generators | None = None,
        prompt_embeds: Float[Tensor, "prompts width"] | None = None,
        output_type: str = "pt",
        return_dict: bool = True,
        callback_on_step_end: Callback | None = None,
        callback_on_step_end_tensor_inputs: list[str] | None = None,
    ) -> MotionOutput | tuple[Any, Any, Any]:
        """Makes motions of prompts.

        Args:
            prompt: what the person does; a list makes a batch.
            length: frames, 20 to 196, of all clips or of each prompt's; None takes that of the clip's controls, or else
                what the length estimator draws.
            controls: where joints must be, of all clips or of each prompt's (None leaves them free). Free clips are
                made as if they were alone, before the others.
            objective: a further loss on joints, see `motion_objectives`; its frames reach to the end of the longest
                clip.
            optimization: a preset of `OPTIMIZATIONS` ("accurate" is the paper's), or steps; only where something is
                controlled.
            num_inference_steps: in which the codes of the first layer are found.
            guidance_scale: strength of classifier-free guidance on them, 0 or more; up to 1 is without.
            residual_guidance_scale: likewise, on the codes of the other layers.
            num_motions_per_prompt: motions of each prompt.
            generator: source of seeds. A list, one for each motion, makes a motion depend on its own only.
            prompt_embeds: in place of `prompt`, as `encode_prompt` makes them for one motion a prompt.
            output_type: "np" or "pt", see `MotionOutput`.
            return_dict: False returns the tuple of joints, features and contacts.
            callback_on_step_end: called as `(pipeline, step, step, tensors)` after each step, with free clips or with
                controlled ones; the dict that it returns replaces what it has of "logits" [batch, tokens, codes],
                "tokens" (embeddings of them) and "prompt_embeds".
            callback_on_step_end_tensor_inputs: names of the tensors it gets; None gives the logits.

        Raises:
            ValueError: for every input that cannot be used, before anything is computed.
        """
        watched = watched_tensors(callback_on_step_end, callback_on_step_end_tensor_inputs or ["logits"])
        self.check_inputs(
            prompt, length, controls, objective, optimization, num_inference_steps, guidance_scale,
            residual_guidance_scale, num_motions_per_prompt, generator, prompt_embeds, output_type, watched,
        )  # fmt: skip
        steps = OPTIMIZATIONS[optimization] if isinstance(optimization, str) else optimization
        with self._calling(guidance_scale):
            batches = self._batches(
                prompt, length, controls, objective, num_motions_per_prompt, generator, prompt_embeds
            )
            for index, clips in enumerate(batches):
                clips.first_step = index * num_inference_steps
            self._num_timesteps = len(batches) * num_inference_steps
            with self.progress_bar(total=self._num_timesteps) as bar:
                made = []
                for clips in batches:
                    logits, ids = self._first_layer(
                        clips, num_inference_steps, steps.each, callback_on_step_end, watched, bar
                    )
                    codes = self._other_layers(clips, ids, residual_guidance_scale)
                    made.append(self._finished(clips, self._latents(clips, logits, codes), steps.last))
            each = _for_each(controls, sum(len(clips.rows) for clips in batches), num_motions_per_prompt)
            output = self._output(batches, made, output_type, each if any(one is not None for one in each) else None)
        self.maybe_free_model_hooks()
        return output if return_dict else (output.joints, output.features, output.contacts)

    def prompt_arguments(
        self, prompt: str, num_images_per_prompt: int = 1, controls: Any = None, **options: Any
    ) -> dict[str, Any]:
        """Arguments of a call that makes motions of `prompt`, with controls as JSON has them.

        Raises:
            ValueError: for controls that `MotionControls.from_json` refuses.
        """
        if controls is not None:
            content = {"controls": controls, "length": options.get("length")}
            options["controls"] = MotionControls.from_json(content)
        return {"prompt": prompt, "num_motions_per_prompt": num_images_per_prompt, **options}

    # What is asked

    def _batches(
        self, prompt: Any, length: Any, controls: Any, objective: Any, copies: int, generator: Any, embeds: Any
    ) -> list[Clips]:
        """Clips that are free and clips that are controlled, each kind as a batch of its own."""
        text = self.encode_prompt(prompt, copies) if embeds is None else embeds.repeat_interleave(copies, 0)
        text = text.to(self._execution_device, self.transformer.dtype)
        each = _for_each(controls, len(text), copies)
        generators = own_generators(len(text), generator)
        lengths = self._lengths(text, _for_each(length, len(text), copies), each, generators)
        kinds: dict[bool, list[int]] = {False: [], True: []}
        for row, one in enumerate(each):
            kinds[one is not None or objective is not None].append(row)
        return [
            self._clips(rows, text[rows], [lengths[i] for i in rows], [each[i] for i in rows], objective,
                        [generators[i] for i in rows])
            for rows in kinds.values() if rows
        ]  # fmt: skip

    def _clips(
        self,
        rows: list[int],
        text: Tensor,
        lengths: list[int],
        each: list[MotionControls | None],
        objective: Objective | None,
        generators: list[torch.Generator],
    ) -> Clips:
        counts, per_token = torch.tensor(lengths, device=text.device), self.autoencoder.frames_per_token
        tokens = -(-counts // per_token)
        padding = padding_behind(tokens, int(tokens.max()))
        clips = Clips(rows, 0, text, lengths, padding, generators, None)
        losses, targets, mask, frames = [], None, None, max(lengths)
        if any(one is not None for one in each):
            targets, mask = (part.to(text.device) for part in batched(each, padding.shape[1] * per_token))
            losses.append(ControlTargets(targets[:, :frames], mask[:, :frames]))
        if objective is not None:
            losses.append(objective)
        if losses:
            valid = torch.arange(frames, device=text.device) < counts[:, None]
            clips.controls = Controls(targets, mask, valid, ObjectiveSum(losses))
        return clips

    def _lengths(
        self, text: Tensor, given: list[int | None], controls: list[Any], generators: list[torch.Generator]
    ) -> list[int]:
        """Of each clip: what the call says, what its controls have, or what the estimator draws."""
        pairs = zip(given, controls, strict=True)
        lengths = [own if own is not None or one is None else one.frames for own, one in pairs]
        unknown = [row for row, own in enumerate(lengths) if own is None]
        if unknown:
            logits = self.length_estimator(text[unknown].to(self.length_estimator.dtype)).float()
            per_token = self.autoencoder.frames_per_token
            logits[:, : SHORTEST // per_token] = -torch.inf
            logits[:, LONGEST // per_token + 1 :] = -torch.inf
            own = [generators[row] for row in unknown]
            noise = draw_gumbel([1] * len(unknown), logits.shape[1], own, logits.device)[:, 0]
            for row, tokens in zip(unknown, (logits + noise).argmax(-1).tolist(), strict=True):
                lengths[row] = tokens * per_token
        return lengths

    # Codes

    def _first_layer(
        self, clips: Clips, steps: int, optimization: int, callback: Callback | None, watched: list[str], bar: Any
    ) -> tuple[Float[Tensor, "batch tokens codes"], Int[Tensor, "batch tokens"]]:
        """Logits and codes of the first layer."""
        transformer, padding = self.transformer, clips.padding
        counts = (~padding).sum(1)
        masked = transformer.token_embedding.weight[transformer.mask_id].to(padding.device)
        tokens = masked.expand(*padding.shape, -1)
        scores = torch.zeros(padding.shape, device=padding.device)
        logits, ids = None, torch.zeros(padding.shape, dtype=torch.long, device=padding.device)
        for step in range(steps):
            hidden = least_certain(scores, masked_counts(step, steps, counts), padding)
            tokens = torch.where(hidden[..., None], masked, tokens)
            logits = self._guided(clips, tokens, self._control(clips, logits, hidden))
            if clips.controls is None:
                drawn = (keep_likeliest(logits, LIKELIEST) + self._gumbel(clips, logits)).argmax(-1)
                ids = torch.where(hidden, drawn, ids)
                chances = torch.nn.functional.one_hot(ids, logits.shape[-1]).float()
            else:
                logits = self._optimized(clips, logits, self._expected_latents, optimization)
                chances = torch.softmax(logits + self._gumbel(clips, logits), -1)
                ids = torch.where(hidden, (chances.log() + self._gumbel(clips, logits)).argmax(-1), ids)
            tokens = transformer.expect(chances.to(masked.dtype))
            certain = torch.softmax(logits, -1).gather(-1, ids[..., None])[..., 0]
            scores = torch.where(hidden, certain, CERTAIN)
            if callback is not None:
                state = {"logits": logits, "tokens": tokens, "prompt_embeds": clips.text}
                count = clips.first_step + step
                changed = callback(self, count, count, {name: state[name] for name in watched}) or {}
                state |= {name: changed[name] for name in state.keys() & changed.keys()}
                logits, tokens, clips.text = state["logits"], state["tokens"], state["prompt_embeds"]
            bar.update()
            if self.interrupt:
                break
        return logits, ids if clips.controls is None else logits.argmax(-1)

    def _control(self, clips: Clips, logits: Tensor | None, hidden: Tensor) -> Tensor | None:
        """What the control branch reads: where the motion is now, unknown tokens as the mean code, and its targets."""
        asked = clips.controls
        if asked is None or asked.targets is None or self.control_branch is None:
            return None
        latents = self.autoencoder.mask_latent.float().to(hidden.device).expand(*hidden.shape, -1)
        if logits is not None:
            known = self.autoencoder.expect(torch.softmax(logits, -1))
            latents = torch.where(hidden[..., None], latents, known)
        joints = joints_of_features(self._features(clips, latents))
        known = self.control_branch.config.control_joints
        return control_features(joints, asked.targets, asked.mask, known).to(clips.text.dtype)

    def _guided(self, clips: Clips, tokens: Tensor, control: Tensor | None) -> Float[Tensor, "batch tokens codes"]:
        """Logits under guidance; control is seen with the prompt and without it."""
        branch = None if control is None else self.control_branch
        if not self.do_classifier_free_guidance:
            return self.transformer(tokens, clips.text, clips.padding, branch, control).float()
        text = torch.cat([torch.zeros_like(clips.text), clips.text])
        control = None if control is None else control.repeat(2, 1, 1)
        logits = self.transformer(tokens.repeat(2, 1, 1), text, clips.padding.repeat(2, 1), branch, control)
        free, told = logits.float().chunk(2)
        return free + self.guidance_scale * (told - free)

    def _other_layers(
        self, clips: Clips, ids: Int[Tensor, "batch tokens"], guidance_scale: float
    ) -> Int[Tensor, "batch tokens layers"]:
        """Codes of all layers, one found after the other."""
        layers = self.autoencoder.config.num_quantizers
        codes = torch.cat([ids[..., None], ids.new_zeros(*ids.shape, layers - 1)], -1)
        for layer in range(1, layers):
            logits = self.residual_transformer(codes, layer, clips.text, clips.padding).float()
            if guidance_scale > 1:
                no_text = torch.zeros_like(clips.text)
                free = self.residual_transformer(codes, layer, no_text, clips.padding).float()
                logits = free + guidance_scale * (logits - free)
            codes[..., layer] = (keep_likeliest(logits, LIKELIEST) + self._gumbel(clips, logits)).argmax(-1)
        return codes

    # Motion

    def _latents(self, clips: Clips, logits: Tensor, codes: Tensor) -> Float[Tensor, "batch tokens width"]:
        """Sums of codes; where something is controlled, the first is the expected one, as it was optimised."""
        if clips.controls is None:
            return self.autoencoder.embed(codes).float()
        others = codes.clone()
        others[..., 0] = NO_CODE
        return self.autoencoder.embed(others).float() + self.autoencoder.expect(torch.softmax(logits, -1))

    def _expected_latents(self, clips: Clips, logits: Tensor) -> Float[Tensor, "batch tokens width"]:
        """Of codes that are expected under noise, new at each call (differentiable expectation sampling)."""
        return self.autoencoder.expect(torch.softmax(logits + self._gumbel(clips, logits), -1))

    def _finished(self, clips: Clips, latents: Tensor, steps: int) -> Float[Tensor, "batch frames 263"]:
        """Features of latents, which are optimised before unless the call was interrupted."""
        steps = 0 if self.interrupt else steps
        return self._features(clips, self._optimized(clips, latents, lambda clips, values: values, steps))

    def _optimized(self, clips: Clips, start: Tensor, latents: Callable[[Clips, Tensor], Tensor], steps: int) -> Tensor:
        """`start` so that the joints of the latents that it makes do what they must."""
        asked = clips.controls
        if asked is None:
            return start

        def loss(values: Tensor) -> Float[Tensor, " batch"]:
            joints = joints_of_features(self._features(clips, latents(clips, values)))
            return asked.objective(joints[:, : asked.valid.shape[1]], asked.valid)

        return optimized(start, loss, steps)

    def _features(self, clips: Clips, latents: Tensor) -> Float[Tensor, "batch frames 263"]:
        motion = self.autoencoder.decode(latents.to(self.autoencoder.dtype), clips.padding)
        return self.autoencoder.denormalized(motion)

    def _output(
        self, batches: list[Clips], made: list[Tensor], output_type: str, controls: list[MotionControls | None] | None
    ) -> MotionOutput:
        clips = {}
        for batch, features in zip(batches, made, strict=True):
            for row, length, own in zip(batch.rows, batch.lengths, features.cpu(), strict=True):
                clips[row] = own[:length]
        features = [clips[row] for row in sorted(clips)]
        parts = [
            [joints_of_features(own) for own in features],
            features,
            [own[:, CONTACTS].clamp(0, 1) for own in features],
        ]
        if output_type == "np":
            parts = [[own.numpy() for own in part] for part in parts]
        return MotionOutput(*parts, controls)

    def _gumbel(self, clips: Clips, logits: Tensor) -> Float[Tensor, "batch tokens codes"]:
        return draw_gumbel((~clips.padding).sum(1).tolist(), logits.shape[-1], clips.generators, logits.device)

    # Checks

    def check_inputs(
        self,
        prompt: Texts | None,
        length: int | list[int | None] | None,
        controls: Any,
        objective: Objective | None,
        optimization: str | OptimizationSteps,
        num_inference_steps: int,
        guidance_scale: float,
        residual_guidance_scale: float,
        num_motions_per_prompt: int,
        generator: Generators | None,
        prompt_embeds: Tensor | None,
        output_type: str,
        callback_on_step_end_tensor_inputs: list[str],
    ) -> None:
        """Refuses what `__call__` cannot use, in one sentence that names the argument and what is allowed.

        Raises:
            ValueError: for the first such input.
        """
        check_count("num_inference_steps", num_inference_steps)
        check_count("num_motions_per_prompt", num_motions_per_prompt)
        check_number("guidance_scale", guidance_scale, low=0)
        check_number("residual_guidance_scale", residual_guidance_scale, low=0)
        check_choice("output_type", output_type, OUTPUT_TYPES)
        if not isinstance(optimization, OptimizationSteps):
            check_choice("optimization", optimization, tuple(OPTIMIZATIONS))
        if objective is not None and not callable(objective):
            raise ValueError(f"objective must be a callable of joints and valid frames, not {objective!r}.")
        for name in callback_on_step_end_tensor_inputs:
            check_choice("callback_on_step_end_tensor_inputs", name, self._callback_tensor_inputs)
        prompts = self._check_prompts(prompt, prompt_embeds)
        clips = prompts * num_motions_per_prompt
        check_generator(generator, clips)
        each = self._check_each("controls", controls, prompts, MotionControls)
        lengths = self._check_each("length", length, prompts, int)
        for one, own in zip(lengths, each, strict=True):
            self._check_length(one, own)

    def _check_prompts(self, prompt: Texts | None, embeds: Tensor | None) -> int:
        if (prompt is None) == (embeds is None):
            raise ValueError("pass either prompt or prompt_embeds" + (", not both." if embeds is not None else "."))
        if embeds is not None:
            width = self.transformer.config.text_width
            fits = isinstance(embeds, Tensor) and embeds.ndim == 2 and embeds.shape[1] == width and len(embeds) > 0
            require(fits, "prompt_embeds", getattr(embeds, "shape", embeds), f"a tensor [prompts, {width}]")
            return len(embeds)
        texts = [prompt] if isinstance(prompt, str) else prompt
        if not isinstance(texts, list | tuple) or not texts or not all(isinstance(text, str) for text in texts):
            raise ValueError(f"prompt must be a string or a list of strings with at least one entry, not {prompt!r}.")
        for index, text in enumerate(texts):
            if not text.strip():
                where = "" if isinstance(prompt, str) else f" (entry {index})"
                raise ValueError(f"prompt{where} is empty: describe the motion in words.")
        if self.text_encoder is None:
            raise ValueError("this pipeline has no text encoder: pass prompt_embeds instead of prompt.")
        return len(texts)

    def _check_each(self, name: str, given: Any, prompts: int, kind: type) -> list[Any]:
        listed_ = list(given) if isinstance(given, list | tuple) else [given] * prompts
        if len(listed_) != prompts:
            raise ValueError(f"{name} is a list of {len(listed_)}, but there are {prompts} prompts.")
        for one in listed_:
            if one is not None and (not isinstance(one, kind) or isinstance(one, bool)):
                raise ValueError(f"{name} must be {kind.__name__}, a list of them or None, not {one!r}.")
        return listed_

    def _check_length(self, length: int | None, controls: MotionControls | None) -> None:
        if length is None and controls is None:
            if self.length_estimator is None:
                raise ValueError("this pipeline has no length estimator: pass length.")
            return
        frames = controls.frames if length is None else length
        require(SHORTEST <= frames <= LONGEST, "length", frames, f"{SHORTEST} to {LONGEST} frames")
        if controls is not None:
            last = int(controls.mask.any(1).nonzero()[-1])
            require(last < frames, "length", frames, f"more than {last}, the last frame that is controlled")

    def _check_components(self) -> None:
        if self.text_encoder is not None and self.tokenizer is None:
            raise ValueError("text_encoder needs its tokenizer: pass both or neither.")
        codes, width = self.autoencoder.config.num_codes, self.transformer.config.text_width
        for name in ("transformer", "residual_transformer"):
            config = getattr(self, name).config
            require(config.num_codes == codes, f"{name}.num_codes", config.num_codes, f"{codes} as the autoencoder's")
            require(
                config.text_width == width, f"{name}.text_width", config.text_width, f"{width} as the transformer's"
            )
        features, per_token = self.autoencoder.config.features, self.autoencoder.frames_per_token
        require(features == NUM_FEATURES, "autoencoder.features", features, f"{NUM_FEATURES}, HumanML3D's")
        if self.control_branch is not None:
            own, theirs = self.control_branch.config, self.transformer.config
            for name in ("width", "num_layers"):
                require(
                    own[name] == theirs[name],
                    f"control_branch.{name}",
                    own[name],
                    f"{theirs[name]} as the transformer's",
                )
            require(
                2**own.conv_stages == per_token,
                "control_branch.conv_stages",
                own.conv_stages,
                f"those of {per_token} frames a token",
            )
        if self.length_estimator is not None:
            own = self.length_estimator.config.text_width
            require(own == width, "length_estimator.text_width", own, f"{width} as the transformer's")
        layers, theirs = self.autoencoder.config.num_quantizers, self.residual_transformer.config.num_quantizers
        require(theirs == layers, "residual_transformer.num_quantizers", theirs, f"{layers} as the autoencoder's")
        if self.text_encoder is not None:
            own = self.text_encoder.config.projection_dim
            require(own == width, "text_encoder.projection_dim", own, f"{width} as the transformer's text_width")


def _for_each(given: Any, batch: int, copies: int) -> list[Any]:
    """One for all clips, or one a prompt, for each clip."""
    if isinstance(given, list | tuple):
        return [one for one in given for _ in range(copies)]
    return [given] * batch
