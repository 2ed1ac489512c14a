// A drawn digit in the form of the UCI digits, step by step as pocket_diffusers.pipelines.recognition.drawn_digit does it.

export const SIDE = 8;
const INK_SHARE = 0.29;
const LEAST_CONTRAST = 0.15;
const HEIGHT = 64;
const FAINT = 0.3;

/**
 * What the classifier should see of a picture.
 * @param {{width: number, height: number, data: ArrayLike<number>}} picture RGBA; transparent parts are white paper.
 * @returns {Float32Array} 8 x 8 cells, 0 is paper and 1 ink.
 * @throws {Error} when all of it has one shade.
 */
export function readDigit(picture) {
  const strokes = map(scaled(cropped(map(inkOf(picture), (value) => Number(value >= FAINT))), HEIGHT), (share) =>
    Number(share >= 0.5),
  );
  let cells;
  for (let radius = 0; radius < HEIGHT / 4; radius++) {
    cells = cellsOf(thickened(strokes, radius));
    if (cells.reduce((sum, value) => sum + value, 0) / cells.length >= INK_SHARE) break;
  }
  return Float32Array.from(cells, (value) => Math.round(255 * value) / 255);
}

/** Cells as the network takes them: [1, size, size] in [-1, 1], interpolated (bilinear). */
export function toPixelValues(cells, size) {
  const values = new Float32Array(size * size);
  const places = Array.from({ length: size }, (_, i) => {
    const at = Math.min(SIDE - 1, Math.max(0, ((i + 0.5) * SIDE) / size - 0.5));
    return { low: Math.floor(at), high: Math.min(SIDE - 1, Math.floor(at) + 1), part: at - Math.floor(at) };
  });
  for (const [y, row] of places.entries()) {
    for (const [x, column] of places.entries()) {
      const along = (line) =>
        cells[line * SIDE + column.low] * (1 - column.part) + cells[line * SIDE + column.high] * column.part;
      values[y * size + x] = 2 * (along(row.low) * (1 - row.part) + along(row.high) * row.part) - 1;
    }
  }
  return values;
}

function inkOf({ width, height, data }) {
  const grey = Float32Array.from({ length: width * height }, (_, i) => {
    const [red, green, blue] = [0, 1, 2].map((k) => Math.round(255 + ((data[4 * i + k] - 255) * data[4 * i + 3]) / 255));
    return ((red * 19595 + green * 38470 + blue * 7471 + 32768) >> 16) / 255; // as PIL's mode L
  });
  const edge = [];
  for (let x = 0; x < width; x++) edge.push(grey[x], grey[(height - 1) * width + x]);
  for (let y = 0; y < height; y++) edge.push(grey[y * width], grey[(y + 1) * width - 1]);
  edge.sort((a, b) => a - b);
  const paper = (edge[Math.floor((edge.length - 1) / 2)] + edge[Math.ceil((edge.length - 1) / 2)]) / 2;
  const ink = grey.map((value) => Math.abs(value - paper));
  const most = ink.reduce((a, b) => Math.max(a, b), 0);
  if (most < LEAST_CONTRAST) throw new Error("There is no digit to be seen: all of the picture has one shade.");
  return { width, height, values: ink.map((value) => value / most) };
}

function map({ width, height, values }, change) {
  return { width, height, values: Array.from(values, change) };
}

function cropped({ width, height, values }) {
  let [top, bottom, left, right] = [height, 0, width, 0];
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      if (!values[y * width + x]) continue;
      [top, bottom] = [Math.min(top, y), Math.max(bottom, y + 1)];
      [left, right] = [Math.min(left, x), Math.max(right, x + 1)];
    }
  }
  const rows = Array.from({ length: bottom - top }, (_, y) =>
    values.slice((top + y) * width + left, (top + y) * width + right),
  );
  return { width: right - left, height: bottom - top, values: rows.flat() };
}

/** Strokes grown by a pen that is an octagon: a cross and a square by turns. */
function thickened({ width, height, values }, radius) {
  const [columns, rows] = [width + 2 * radius, height + 2 * radius];
  let grown = new Array(columns * rows).fill(0);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) grown[(y + radius) * columns + x + radius] = values[y * width + x];
  }
  for (let step = 0; step < radius; step++) {
    const old = grown;
    const at = (x, y) => (x < 0 || y < 0 || x >= columns || y >= rows ? 0 : old[y * columns + x]);
    const tall = (x, y) => (x < 0 || x >= columns ? 0 : at(x, y - 1) | at(x, y) | at(x, y + 1));
    const side = step % 2 ? tall : at;
    grown = old.map((_, i) => {
      const [x, y] = [i % columns, Math.floor(i / columns)];
      return tall(x, y) | side(x - 1, y) | side(x + 1, y);
    });
  }
  return cropped({ width: columns, height: rows, values: grown });
}

function cellsOf(mask) {
  const side = 4 * SIDE;
  const { width, height, values } = scaled(mask, side);
  const [left, top] = [Math.floor((side - width) / 2), Math.floor((side - height) / 2)];
  const cells = new Array(SIDE * SIDE).fill(0);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      cells[Math.floor((top + y) / 4) * SIDE + Math.floor((left + x) / 4)] += values[y * width + x] / 16;
    }
  }
  return cells;
}

/** Share of ink in each pixel when the longer side becomes `side` pixels. */
function scaled({ width, height, values }, side) {
  const scale = side / Math.max(width, height);
  const [columns, rows] = [width, height].map((length) => Math.max(1, evenRound(length * scale)));
  const [across, down] = [overlaps(width, columns), overlaps(height, rows)];
  const result = new Array(columns * rows).fill(0);
  for (let y = 0; y < rows; y++) {
    for (const [line, tall] of down[y]) {
      for (let x = 0; x < columns; x++) {
        for (const [column, wide] of across[x]) result[y * columns + x] += tall * wide * values[line * width + column];
      }
    }
  }
  return { width: columns, height: rows, values: result };
}

/** For each new pixel the old ones that it lies on, with its share on each. */
function overlaps(old, count) {
  return Array.from({ length: count }, (_, i) => {
    const [from, to] = [(i * old) / count, ((i + 1) * old) / count];
    const shares = [];
    for (let j = Math.floor(from); j < Math.min(old, Math.ceil(to)); j++) {
      shares.push([j, ((Math.min(to, j + 1) - Math.max(from, j)) * count) / old]);
    }
    return shares;
  });
}

/** Rounds halves to even, as Python does. */
function evenRound(value) {
  const low = Math.floor(value);
  return value - low === 0.5 ? low + (low % 2) : Math.round(value);
}
