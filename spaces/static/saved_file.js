// Files that a page made, kept where the browser keeps downloads.

/** @param {Blob} blob what is in the file. @param {string} name */
export function saveFile(blob, name) {
  const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

/** A file's name, without its ending, of what was asked for. */
export function fileName(prompt, seed, otherwise) {
  const words = prompt.toLowerCase().replace(/[^a-z0-9]+/g, "-").replace(/^-|-$/g, "").slice(0, 48);
  return `${words || otherwise}-seed-${seed}`;
}
