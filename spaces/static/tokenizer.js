// Byte-level BPE from a tokenizer.json, giving the ids that the Python package `tokenizers` gives.

const WORDS = /'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\p{White_Space}\p{L}\p{N}]+|\p{White_Space}+(?!\P{White_Space})|\p{White_Space}+/gu;

export class ByteLevelTokenizer {
  /**
   * @param {object} file a parsed tokenizer.json.
   * @throws {Error} naming the part of the file that this class does not know.
   */
  constructor(file) {
    checkParts(file);
    this.vocabulary = new Map(Object.entries(file.model.vocab));
    const pairs = file.model.merges.map((merge) => (Array.isArray(merge) ? merge.join(" ") : merge));
    this.ranks = new Map(pairs.map((pair, rank) => [pair, rank]));
    this.normalizers = normalizersOf(file.normalizer);
    this.prefixSpace = file.pre_tokenizer.add_prefix_space;
    this.added = new Map(file.added_tokens.map((token) => [token.content, token.id]));
    const literals = [...this.added.keys()].sort((a, b) => b.length - a.length).map(escapeForRegExp);
    this.splitter = literals.length ? new RegExp(`(${literals.join("|")})`) : null;
    this.frame = framesOf(file.post_processor);
    this.padId = file.padding?.pad_id ?? 0;
    this.bytes = byteAlphabet();
  }

  /** Ids of a text without the start and end tokens. */
  ids(text) {
    const parts = this.splitter ? text.split(this.splitter) : [text];
    return parts.flatMap((part) => (this.added.has(part) ? [this.added.get(part)] : this.#plain(part)));
  }

  /**
   * Ids and mask of exactly `length` tokens: cut or padded on the right, start and end tokens included.
   * @returns {{ids: number[], mask: number[]}} with mask 1 for real tokens and 0 for padding.
   */
  encode(text, length) {
    const [before, after] = this.frame;
    const kept = this.ids(text).slice(0, length - before.length - after.length);
    const ids = [...before, ...kept, ...after];
    const mask = ids.map(() => 1);
    while (ids.length < length) {
      ids.push(this.padId);
      mask.push(0);
    }
    return { ids, mask };
  }

  #plain(text) {
    for (const normalize of this.normalizers) text = normalize(text);
    if (!text) return [];
    if (this.prefixSpace && !text.startsWith(" ")) text = ` ${text}`;
    return (text.match(WORDS) ?? []).flatMap((word) => this.#merge(word));
  }

  #merge(word) {
    const symbols = [...new TextEncoder().encode(word)].map((byte) => this.bytes[byte]);
    for (;;) {
      let best = Infinity;
      let at = -1;
      for (let i = 0; i + 1 < symbols.length; i++) {
        const rank = this.ranks.get(`${symbols[i]} ${symbols[i + 1]}`);
        if (rank !== undefined && rank < best) [best, at] = [rank, i];
      }
      if (at < 0) return symbols.map((symbol) => this.vocabulary.get(symbol));
      symbols.splice(at, 2, symbols[at] + symbols[at + 1]);
    }
  }
}

/** GPT-2's characters for the 256 bytes: printable ones stand for themselves, the others for code points from 256. */
function byteAlphabet() {
  const printable = (byte) => (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
  let next = 256;
  return Array.from({ length: 256 }, (_, byte) => String.fromCodePoint(printable(byte) ? byte : next++));
}

function checkParts(file) {
  const wanted = { model: "BPE", pre_tokenizer: "ByteLevel", post_processor: "TemplateProcessing" };
  for (const [part, type] of Object.entries(wanted)) {
    if (file[part]?.type !== type) throw new Error(`tokenizer.json: ${part} is ${file[part]?.type}, not ${type}.`);
  }
}

function normalizersOf(normalizer) {
  if (!normalizer) return [];
  const known = {
    NFC: (text) => text.normalize("NFC"),
    NFKC: (text) => text.normalize("NFKC"),
    // One character at a time, as in Python's tokenizers: JavaScript alone would end a Greek word in another sigma.
    Lowercase: (text) => Array.from(text, (character) => character.toLowerCase()).join(""),
  };
  const list = normalizer.type === "Sequence" ? normalizer.normalizers : [normalizer];
  return list.map(({ type }) => {
    if (!known[type]) throw new Error(`tokenizer.json: the normalizer ${type} is unknown here.`);
    return known[type];
  });
}

/** Ids before and after the text. */
function framesOf(template) {
  const at = template.single.findIndex((item) => item.Sequence);
  const ids = (items) => items.flatMap((item) => template.special_tokens[item.SpecialToken.id].ids);
  return [ids(template.single.slice(0, at)), ids(template.single.slice(at + 1))];
}

function escapeForRegExp(text) {
  return text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
}
