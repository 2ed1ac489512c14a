import { Background } from "./background.js";
import { bvhOf } from "./bvh_file.js";
import { FloorBoard } from "./floor_board.js";
import { MotionStage } from "./motion_stage.js";
import { at, onAsked, openModel, readContract, secondsSince, work } from "./page_state.js";
import { fileName, saveFile } from "./saved_file.js";

const PATHS = {
  none: [],
  straight: [[0, 4]],
  corner: [[0, 2.5], [2.5, 2.5]],
  slalom: Array.from({ length: 45 }, (_, i) => [0.5 * Math.sin(((i + 1) / 15) * Math.PI), (i + 1) / 10]),
  circle: circle(0.9),
}; // points x and z in metres: a person who starts at the origin looks along +z and has +x to the left
const model = new Background("./worker.js");
const board = new FloorBoard(at("board"), () => move());
let skeleton = null;
let stage = null;

/** A circle of some radius to the left of the start, once around. */
function circle(radius) {
  const turns = Array.from({ length: 24 }, (_, i) => ((i + 1) / 24) * 2 * Math.PI);
  return turns.map((turn) => [radius * (1 - Math.cos(turn)), radius * Math.sin(turn)]);
}

function readRequest() {
  if (at("fresh").checked) at("seed").value = crypto.getRandomValues(new Uint32Array(1))[0] % 1_000_000;
  const frames = at("frames").valueAsNumber;
  return {
    prompt: at("prompt").value.trim(),
    path: board.points,
    frames: Number.isNaN(frames) ? null : frames,
    steps: at("steps").valueAsNumber,
    guidance: at("guidance").valueAsNumber,
    seed: at("seed").valueAsNumber,
  };
}

function move() {
  return work(at("move"), "Moving", async (progress) => {
    const [request, start] = [readRequest(), performance.now()];
    const motion = await model.generate(request, progress);
    const seconds = secondsSince(start);
    show(motion, request);
    const frames = motion.joints.length / (3 * skeleton.names.length);
    const shown = `${frames} frames, ${frames / skeleton.framesPerSecond} s`;
    return `1 motion in ${seconds} s, in this browser · ${shown} · seed ${request.seed}`;
  });
}

/** Plays a motion, says how near it came to its path, and lets it be kept. */
function show({ joints, targets, misses }, { prompt, seed }) {
  at("empty")?.remove();
  stage.show(joints, targets);
  at("stage").scrollIntoView({ block: "nearest", behavior: "smooth" });
  const centimetres = (metres) => `${(100 * metres).toFixed(1)} cm`;
  const average = misses.reduce((sum, miss) => sum + miss, 0) / misses.length;
  const far = `${centimetres(average)} on average, ${centimetres(Math.max(...misses))} at most.`;
  at("missed").textContent = misses.length ? `The path was missed by ${far}` : "";
  at("saves").hidden = false;
  const name = fileName(prompt, seed, "motion");
  const save = (text, type, ending) => saveFile(new Blob([text], { type }), `${name}${ending}`);
  at("bvh").onclick = () => save(bvhOf(joints, skeleton), "text/plain", ".bvh");
  at("json").onclick = () => save(jsonOf(joints, prompt, seed), "application/json", ".json");
}

/** Places of the joints in metres, to a tenth of a millimetre, frame after frame. */
function jsonOf(joints, prompt, seed) {
  const { names, parents, framesPerSecond } = skeleton;
  const numbers = Array.from(joints, (value) => Math.round(1e4 * value) / 1e4);
  const positions = parted(parted(numbers, 3), names.length);
  return JSON.stringify({ prompt, seed, frames_per_second: framesPerSecond, joints: names, parents, positions });
}

function parted(values, size) {
  return Array.from({ length: values.length / size }, (_, i) => values.slice(i * size, (i + 1) * size));
}

/** Takes from what the bundle says of itself its defaults and its skeleton. */
function takeOver({ constants }) {
  [at("frames").min, at("frames").max] = constants.frames;
  at("steps").value = constants.num_inference_steps;
  at("guidance").value = constants.guidance_scale;
  const { joints: names, parents, frames_per_second: framesPerSecond } = constants;
  skeleton = { names, parents, framesPerSecond };
  stage = new MotionStage(at("stage"), skeleton);
}

onAsked(at("form"), at("prompt"), move);
at("clear").onclick = () => board.show(PATHS.none);
for (const button of document.querySelectorAll(".examples button")) {
  button.onclick = () => {
    at("prompt").value = button.dataset.prompt;
    board.show(PATHS[button.dataset.path]);
    move();
  };
}

await openModel(model, async () => {
  takeOver(await readContract());
  at("move").disabled = false;
  return "Ready: draw a path. Everything runs in this browser; nothing you type or draw leaves it.";
});
