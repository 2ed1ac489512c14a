import { Background } from "./background.js";
import { bvhOf } from "./bvh_file.js";
import { FloorBoard } from "./floor_board.js";
import { MotionStage } from "./motion_stage.js";
import { fileName, saveFile } from "./saved_file.js";

const PATHS = {
  none: [],
  straight: [[0, 4]],
  corner: [[0, 2.5], [2.5, 2.5]],
  slalom: Array.from({ length: 45 }, (_, i) => [0.5 * Math.sin(((i + 1) / 15) * Math.PI), (i + 1) / 10]),
  circle: circle(0.9),
}; // points x and z in metres: a person who starts at the origin looks along +z and has +x to the left
const at = (id) => document.getElementById(id);
const model = new Background("./worker.js");
const board = new FloorBoard(at("board"), () => move());
let skeleton = null;
let stage = null;

/** A circle of some radius to the left of the start, once around. */
function circle(radius) {
  const turns = Array.from({ length: 24 }, (_, i) => ((i + 1) / 24) * 2 * Math.PI);
  return turns.map((turn) => [radius * (1 - Math.cos(turn)), radius * Math.sin(turn)]);
}

function tell(words, { fraction = null, wrong = false } = {}) {
  at("state").className = `state${wrong ? " wrong" : fraction === null ? " still" : ""}`;
  at("words").textContent = words;
  at("bar").value = fraction ?? 0;
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

async function move() {
  if (at("move").disabled) return;
  at("move").disabled = true;
  at("state").scrollIntoView({ block: "nearest", behavior: "smooth" });
  const request = readRequest();
  const start = performance.now();
  try {
    tell("Moving", { fraction: 0 });
    const motion = await model.generate(request, (fraction, words) => tell(`Moving: ${words}`, { fraction }));
    const seconds = ((performance.now() - start) / 1000).toFixed(1);
    show(motion, request);
    const frames = motion.joints.length / (3 * skeleton.names.length);
    const shown = `${frames} frames, ${frames / skeleton.framesPerSecond} s`;
    tell(`1 motion in ${seconds} s, in this browser · ${shown} · seed ${request.seed}`);
  } catch (error) {
    tell(error.message, { wrong: true });
  } finally {
    at("move").disabled = false;
  }
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

/** Reads what the bundle says of itself: its defaults and its skeleton. */
async function readContract() {
  const { constants } = await (await fetch("./model/contract.json")).json();
  [at("frames").min, at("frames").max] = constants.frames;
  at("steps").value = constants.num_inference_steps;
  at("guidance").value = constants.guidance_scale;
  const { joints: names, parents, frames_per_second: framesPerSecond } = constants;
  skeleton = { names, parents, framesPerSecond };
  stage = new MotionStage(at("stage"), skeleton);
}

at("form").onsubmit = (event) => {
  event.preventDefault();
  move();
};
at("prompt").onkeydown = (event) => {
  if (event.key === "Enter" && !event.shiftKey) {
    event.preventDefault();
    move();
  }
};
at("clear").onclick = () => board.show(PATHS.none);
for (const button of document.querySelectorAll(".examples button")) {
  button.onclick = () => {
    at("prompt").value = button.dataset.prompt;
    board.show(PATHS[button.dataset.path]);
    move();
  };
}

try {
  await model.load((fraction, words) => tell(`Loading the model: ${words}`, { fraction }));
  await readContract();
  tell("Ready: draw a path. Everything runs in this browser; nothing you type or draw leaves it.");
  at("move").disabled = false;
} catch (error) {
  tell(`The model could not be loaded: ${error.message}`, { wrong: true });
}
