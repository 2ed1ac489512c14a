// The desk of a page that draws pictures of prompts with the model in its `worker.js`.

import { Background } from "./background.js";
import { savePng, toCanvas } from "./pixels.js";
import { fileName } from "./saved_file.js";

const KEPT = 13;
const at = (id) => document.getElementById(id);
const model = new Background("./worker.js");

function tell(words, { fraction = null, wrong = false } = {}) {
  at("state").className = `state${wrong ? " wrong" : fraction === null ? " still" : ""}`;
  at("words").textContent = words;
  at("bar").value = fraction ?? 0;
}

function readRequest() {
  if (at("fresh").checked) at("seed").value = crypto.getRandomValues(new Uint32Array(1))[0] % 1_000_000;
  return {
    prompt: at("prompt").value.trim(),
    negativePrompt: at("negative").value.trim(),
    steps: at("steps").valueAsNumber,
    guidance: at("guidance").valueAsNumber,
    seed: at("seed").valueAsNumber,
  };
}

async function draw() {
  if (at("draw").disabled) return;
  at("draw").disabled = true;
  at("state").scrollIntoView({ block: "nearest", behavior: "smooth" });
  const request = readRequest();
  const start = performance.now();
  try {
    tell("Drawing", { fraction: 0 });
    const picture = await model.generate(request, (fraction, words) => tell(`Drawing: ${words}`, { fraction }));
    show(picture, request);
    const seconds = ((performance.now() - start) / 1000).toFixed(1);
    tell(`1 picture in ${seconds} s, in this browser · ${request.steps} steps · guidance ${request.guidance}`);
  } catch (error) {
    tell(error.message, { wrong: true });
  } finally {
    at("draw").disabled = false;
  }
}

function show(picture, { prompt, seed }) {
  at("empty")?.remove();
  const canvas = toCanvas(picture);
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", prompt);
  const save = Object.assign(document.createElement("button"), { className: "plain", textContent: "Save PNG" });
  save.onclick = () => savePng(canvas, `${fileName(prompt, seed, "picture")}.png`);
  const caption = document.createElement("figcaption");
  caption.append(Object.assign(document.createElement("span"), { textContent: `${prompt} · seed ${seed}` }), save);
  const figure = document.createElement("figure");
  figure.append(canvas, caption);
  at("results").prepend(figure);
  while (at("results").children.length > KEPT) at("results").lastChild.remove();
}

async function fillDefaults() {
  const { constants } = await (await fetch("./model/contract.json")).json();
  at("steps").value = constants.num_inference_steps;
  at("guidance").value = constants.guidance_scale;
}

/** Loads the model and lets the page draw. */
export async function openDesk() {
  at("form").onsubmit = (event) => {
    event.preventDefault();
    draw();
  };
  at("prompt").onkeydown = (event) => {
    if (event.key === "Enter" && !event.shiftKey) {
      event.preventDefault();
      draw();
    }
  };
  for (const button of document.querySelectorAll(".examples button")) {
    button.onclick = () => {
      at("prompt").value = button.textContent;
      draw();
    };
  }

  try {
    await model.load((fraction, words) => tell(`Loading the model: ${words}`, { fraction }));
    await fillDefaults();
    tell("Ready. Everything runs in this browser; nothing you type leaves it.");
    at("draw").disabled = false;
  } catch (error) {
    tell(`The model could not be loaded: ${error.message}`, { wrong: true });
  }
}
