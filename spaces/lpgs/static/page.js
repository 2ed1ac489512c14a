import { Background } from "./background.js";
import { storedCircle } from "./lpgs_decoder.js";
import { at, tell } from "./page_state.js";
import { readSafetensors } from "./safetensors.js";
import { SplatViewer } from "./splat_viewer.js";

const MOST_MEGABYTES = 200;
const DIRECTIONS = { x: [1, 0, 0], y: [0, 1, 0], z: [0, 0, 1], "-x": [-1, 0, 0], "-y": [0, -1, 0], "-z": [0, 0, -1] };
const decoders = {
  lpgs: new Background("./lpgs_decoder_worker.js"),
  splatz: new Background("./splat_decoder_worker.js"),
};
const ready = prepare();
let shown = null; // the splats on the canvas, and the circle from where they are looked at
let asked = 0; // files, of which only the last is shown

/** Shows a file, and says what it took; `read` gives its bytes. */
async function open(name, read) {
  const turn = ++asked;
  const say = (...words) => turn === asked && tell(...words);
  say("Unpacking", { fraction: 0 });
  at("splats").scrollIntoView({ block: "nearest", behavior: "smooth" });
  try {
    const decoder = decoderOf(name);
    await ready;
    const bytes = await read();
    const start = performance.now();
    const splats = await decoder.generate(bytes, (fraction, words) => say(`Unpacking: ${words}`, { fraction }));
    if (turn !== asked) return;
    shown = { splats, circle: circleOf(name, bytes) };
    if (shown.circle !== null) at("up").value = shown.circle.up;
    await draw();
    const seconds = ((performance.now() - start) / 1000).toFixed(2);
    const held = `${grouped(splats.count)} splats · ${grouped(bytes.length)} bytes`;
    say(`1 scene in ${seconds} s, in this browser · ${held}`);
    report(bytes);
  } catch (error) {
    say(error.message, { wrong: true });
  }
}

function decoderOf(name) {
  const ending = endingOf(name);
  if (Object.hasOwn(decoders, ending)) return decoders[ending];
  throw new Error(`The file's name must end in .lpgs or .splatz, not ${name}.`);
}

function endingOf(name) {
  return name.split(".").at(-1).toLowerCase();
}

async function prepare() {
  await Promise.all(Object.values(decoders).map((decoder) => decoder.load()));
  return new SplatViewer(at("splats"));
}

async function draw() {
  const viewer = await ready;
  viewer.up = DIRECTIONS[at("up").value];
  await viewer.show(shown.splats, shown.circle);
}

function circleOf(name, bytes) {
  return endingOf(name) === "lpgs" ? storedCircle(bytes) : null;
}

/** A row for each part of a file, the largest first. */
function report(bytes) {
  const parts = [...readSafetensors(bytes).tensors].map(([name, { bytes: part }]) => [name, part.length]);
  parts.push(["container", bytes.length - parts.reduce((sum, [, size]) => sum + size, 0)]);
  parts.sort(([, one], [, other]) => other - one);
  const rows = [...parts, ["all", bytes.length]].map(([name, size]) => {
    const row = document.createElement("tr");
    const head = Object.assign(document.createElement("th"), { scope: "row", textContent: name.replaceAll("_", " ") });
    const share = `${((100 * size) / bytes.length).toFixed(1)} %`;
    row.append(head, cell(grouped(size)), cell(share));
    return row;
  });
  at("storage").tBodies[0].replaceChildren(...rows);
  at("storage").hidden = false;
}

function cell(textContent) {
  return Object.assign(document.createElement("td"), { textContent });
}

function grouped(number) {
  return number.toLocaleString("en");
}

async function fetchBytes(address) {
  const response = await fetch(address);
  if (!response.ok) throw new Error(`${address} cannot be fetched: status ${response.status}.`);
  return new Uint8Array(await response.arrayBuffer());
}

async function bytesOf(file) {
  const megabytes = Math.ceil(file.size / 1e6);
  if (megabytes > MOST_MEGABYTES) throw new Error(`The file must have at most ${MOST_MEGABYTES} MB, not ${megabytes}.`);
  return new Uint8Array(await file.arrayBuffer());
}

function openFile(file) {
  open(file.name, () => bytesOf(file));
}

for (const button of document.querySelectorAll(".examples button")) {
  button.onclick = () => open(button.dataset.scene, () => fetchBytes(button.dataset.scene));
}
at("file").onchange = ({ target }) => {
  if (target.files.length) openFile(target.files[0]);
  target.value = "";
};
at("up").onchange = () => shown && draw();
document.ondragover = (event) => {
  event.preventDefault();
  document.body.classList.add("dropping");
};
document.ondragleave = ({ relatedTarget }) => {
  if (relatedTarget === null) document.body.classList.remove("dropping");
};
document.ondrop = (event) => {
  event.preventDefault();
  document.body.classList.remove("dropping");
  if (event.dataTransfer.files.length) openFile(event.dataTransfer.files[0]);
};

try {
  await ready;
  if (asked === 0) tell("Ready. Everything happens in this browser; no file leaves it.");
} catch (error) {
  tell(`The page cannot show scenes: ${error.message}`, { wrong: true });
}
