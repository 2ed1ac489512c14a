// The desk of a page that draws pictures of prompts with the model in its `worker.js`.

import { Background } from "./background.js";
import { at, onAsked, openModel, readContract, secondsSince, work } from "./page_state.js";
import { savePng, toCanvas } from "./pixels.js";
import { fileName } from "./saved_file.js";

const KEPT = 13;
const model = new Background("./worker.js");

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

function draw() {
  return work(at("draw"), "Drawing", async (progress) => {
    const [request, start] = [readRequest(), performance.now()];
    show(await model.generate(request, progress), request);
    const settings = `${request.steps} steps · guidance ${request.guidance}`;
    return `1 picture in ${secondsSince(start)} s, in this browser · ${settings}`;
  });
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

/** Loads the model and lets the page draw. */
export async function openDesk() {
  onAsked(at("form"), at("prompt"), draw);
  for (const button of document.querySelectorAll(".examples button")) {
    button.onclick = () => {
      at("prompt").value = button.textContent;
      draw();
    };
  }
  await openModel(model, async () => {
    const { constants } = await readContract();
    at("steps").value = constants.num_inference_steps;
    at("guidance").value = constants.guidance_scale;
    at("draw").disabled = false;
    return "Ready. Everything runs in this browser; nothing you type leaves it.";
  });
}
