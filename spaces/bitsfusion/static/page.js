import { openDesk } from "./drawing_desk.js";

const at = (id) => document.getElementById(id);
const grouped = (count) => count.toLocaleString("en");

/** What travels of the UNet, against two bytes for each of its numbers in full precision. */
async function showSizes() {
  const { file_bytes: file, graph_bytes: graph, parameters } = (await (await fetch("./model/packed.json")).json()).unet;
  at("packed").textContent = `${grouped(file)} bytes`;
  at("graph").textContent = `${grouped(graph)} bytes`;
  at("half").textContent = `${grouped(2 * parameters)} bytes`;
  at("ratio").textContent = `${((2 * parameters) / file).toFixed(1)} times smaller`;
}

await Promise.all([openDesk(), showSizes()]);
