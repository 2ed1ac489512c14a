import { Background } from "./background.js";
import { lookAround } from "./look_around.js";
import { at, openModel, readContract, secondsSince, tell } from "./page_state.js";
import { savePng } from "./pixels.js";

const WALK = 4000; // milliseconds of a walk along the path
const COUNTED = 20; // frames of which the speed is told
const PAUSE = 500; // milliseconds without a frame, after which counting begins anew
const model = new Background("./worker.js");
const canvas = at("field");
let place = null; // of the camera
let stale = false; // whether the place is newer than the picture
let drawing = null; // a promise while pictures are made
let walks = 0; // of which only the newest goes on
let frames = []; // when those were shown between which there was no pause

/** Shows what is seen from the place, and from where it has gone meanwhile. */
function draw() {
  stale = true;
  drawing ??= drawAll().finally(() => (drawing = null));
  return drawing;
}

async function drawAll() {
  const start = performance.now();
  if (!(start - frames.at(-1) < PAUSE)) frames = [start];
  while (stale) {
    stale = false;
    const [right, up] = [place.right, place.up];
    const { pixels, milliseconds, weights } = await model.generate(place.camera());
    canvas.getContext("2d").putImageData(new ImageData(pixels.data, pixels.width, pixels.height), 0, 0);
    frames = [...frames, performance.now()].slice(-COUNTED - 1);
    report(milliseconds, weights, place.views.words(right, up));
    await new Promise(requestAnimationFrame); // lets the page move the place
  }
}

function report(milliseconds, weights, where) {
  const rate = (1000 * (frames.length - 1)) / (frames.at(-1) - frames[0]);
  const perSecond = rate.toFixed(rate < 10 ? 1 : 0);
  at("speed").textContent = `${milliseconds.toFixed(0)} ms a frame · ${perSecond} frames a second`;
  at("where").textContent = where;
  const parts = weights.map((weight, i) => [i + 1, Math.round(100 * weight)]).filter(([, percent]) => percent > 0);
  const words = parts.map(([number, percent]) => `${number} (${percent} %)`).join(" and ");
  at("parts").textContent = weights.length > 1 ? `Drawn by sub-scene ${words} of ${weights.length}` : "";
}

/** Does what may fail, and says so. */
async function attempt(job) {
  try {
    await job();
  } catch (error) {
    tell(error.message, { wrong: true });
  }
}

function look() {
  walks++;
  attempt(draw);
}

async function goTo(right, up) {
  walks++;
  place.goTo(right, up);
  const start = performance.now();
  await draw();
  tell(`1 picture in ${((performance.now() - start) / 1000).toFixed(2)} s, in this browser`);
}

/** Goes along a closed path through the range; whoever looks elsewhere meanwhile ends it. */
async function walk() {
  const turn = ++walks;
  const start = performance.now();
  let pictures = 0;
  for (let share = 0; share < 1; share = (performance.now() - start) / WALK) {
    place.goTo(...place.views.onPath(share));
    await draw();
    if (turn !== walks) return;
    pictures++;
  }
  tell(`1 walk in ${secondsSince(start)} s, in this browser · ${pictures} pictures`);
}

for (const button of document.querySelectorAll(".examples button")) {
  const { right, up } = button.dataset;
  button.onclick = () => {
    canvas.scrollIntoView({ block: "nearest", behavior: "smooth" }); // on a phone the buttons are below it
    attempt(right === undefined ? walk : () => goTo(Number(right), Number(up)));
  };
}
at("save").onclick = () => savePng(canvas, "light-field.png");

await openModel(model, async () => {
  const { constants } = await readContract();
  Object.assign(canvas, { width: constants.width, height: constants.height });
  place = lookAround(canvas, constants.views, look);
  await draw();
  await draw(); // the first run of a network takes longer than all others
  for (const button of document.querySelectorAll("button")) button.disabled = false;
  return "Ready: drag the picture. Everything runs in this browser.";
});
