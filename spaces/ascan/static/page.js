import { Background } from "./background.js";
import { SIDE } from "./digit.js";
import { at, openModel, tell } from "./page_state.js";

const PEN = 22;
const LARGEST_FILE = 20e6;
const SHOWN = 3;
const model = new Background("./worker.js");
const board = at("board");
const pen = board.getContext("2d", { willReadFrequently: true });
let ready = false;
let last = null;

function clear() {
  pen.fillStyle = "white";
  pen.fillRect(0, 0, board.width, board.height);
}

async function read() {
  if (!ready) return;
  const start = performance.now();
  try {
    const { width, height, data } = pen.getImageData(0, 0, board.width, board.height);
    const { cells, best } = await model.generate({ width, height, data });
    show(cells, best);
    tell(`1 digit in ${((performance.now() - start) / 1000).toFixed(2)} s, in this browser`);
  } catch (error) {
    tell(error.message, { wrong: true });
  }
}

function show(cells, best) {
  const rows = best.slice(0, SHOWN).map(({ label, score }) => {
    const row = document.createElement("li");
    const meter = Object.assign(document.createElement("meter"), { min: 0, max: 1, value: score });
    meter.setAttribute("aria-label", `digit ${label}`);
    const digit = Object.assign(document.createElement("strong"), { textContent: label });
    row.append(digit, meter, Object.assign(document.createElement("span"), { textContent: `${(100 * score).toFixed(1)} %` }));
    return row;
  });
  at("digits").replaceChildren(...rows);
  const pixels = new ImageData(SIDE, SIDE);
  cells.forEach((value, i) => pixels.data.set([255 * value, 255 * value, 255 * value, 255], 4 * i));
  at("seen").getContext("2d").putImageData(pixels, 0, 0);
}

async function lay(file) {
  try {
    if (file.size > LARGEST_FILE) throw new Error(`The file has more than ${LARGEST_FILE / 1e6} MB: make it smaller first.`);
    const picture = await createImageBitmap(file).catch(() => {
      throw new Error("The file is no picture that can be read: use a PNG, JPEG, WebP or GIF file.");
    });
    clear();
    const scale = Math.min(board.width / picture.width, board.height / picture.height);
    const [width, height] = [picture.width * scale, picture.height * scale];
    pen.drawImage(picture, (board.width - width) / 2, (board.height - height) / 2, width, height);
    await read();
  } catch (error) {
    tell(error.message, { wrong: true });
  }
}

function place(event) {
  const frame = board.getBoundingClientRect();
  return [
    ((event.clientX - frame.left) * board.width) / frame.width,
    ((event.clientY - frame.top) * board.height) / frame.height,
  ];
}

function lineTo(point) {
  Object.assign(pen, { strokeStyle: "black", lineWidth: PEN, lineCap: "round", lineJoin: "round" });
  pen.beginPath();
  pen.moveTo(...last);
  pen.lineTo(...point);
  pen.stroke();
  last = point;
}

board.onpointerdown = (event) => {
  board.setPointerCapture(event.pointerId);
  last = place(event);
  lineTo(last);
};
board.onpointermove = (event) => {
  if (last !== null) lineTo(place(event));
};
board.onpointerup = board.onpointercancel = () => {
  if (last === null) return;
  last = null;
  read();
};
at("clear").onclick = () => {
  clear();
  at("digits").replaceChildren();
  at("seen").getContext("2d").clearRect(0, 0, SIDE, SIDE);
  tell("Draw a digit.");
};
at("file").onchange = ({ target }) => {
  if (target.files.length) lay(target.files[0]);
  target.value = "";
};

clear();
await openModel(model, async () => {
  ready = true;
  return "Ready: draw a digit. Everything runs in this browser; nothing you draw leaves it.";
});
