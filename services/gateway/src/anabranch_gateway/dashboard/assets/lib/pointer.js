// @ts-check
/** Locates a JSON Pointer in a JSON or YAML text, so that an error can be shown at its line. Pure. */

/** @typedef {{ start: number, end: number, line: number, exact: boolean }} TextRange `line` from 1 */

/**
 * The names in a JSON Pointer: "/a~1b/0" is ["a/b", "0"].
 * @param {string} pointer
 */
export const namesIn = (pointer) =>
  pointer.split("/").slice(1).map((part) => part.replaceAll("~1", "/").replaceAll("~0", "~"));

/**
 * The range of the value; if the text lacks it or cannot be parsed that far, the range of its nearest parent.
 * @param {string} text
 * @param {string} pointer
 * @returns {TextRange}
 */
export function locate(text, pointer) {
  const names = namesIn(pointer);
  const found = /^\s*[{[]/.test(text) ? inJson(text, names) : inYaml(text, names);
  const line = text.slice(0, found.start).split("\n").length;
  return { ...found, line };
}

// --- JSON ----------------------------------------------------------------------------------------

/** @param {string} text @param {string[]} names */
function inJson(text, names) {
  let at = skipSpace(text, 0);
  let found = { start: at, value: at };
  for (const name of names) {
    const next = text[at] === "{" ? memberOf(text, at, name) : text[at] === "[" ? itemOf(text, at, Number(name)) : null;
    if (!next) return { start: found.start, end: shownEnd(text, found), exact: false };
    at = next.value;
    found = next;
  }
  return { start: found.start, end: shownEnd(text, found), exact: true };
}

/** The end of a value, or of its first line if it has several. @param {string} text @param {{ start: number, value: number }} found */
function shownEnd(text, { start, value }) {
  const end = endOfValue(text, value);
  const line = text.indexOf("\n", start);
  return line < 0 ? end : Math.min(line, end);
}

/** @param {string} text @param {number} at */
function skipSpace(text, at) {
  while (/\s/.test(text[at] ?? "")) at += 1;
  return at;
}

/** @param {string} text @param {number} at of the opening quote */
function endOfString(text, at) {
  for (at += 1; at < text.length && text[at] !== '"'; at += 1) if (text[at] === "\\") at += 1;
  return at + 1;
}

/** @param {string} text @param {number} at */
function endOfValue(text, at) {
  if (text[at] === '"') return endOfString(text, at);
  if (text[at] !== "{" && text[at] !== "[") {
    while (at < text.length && !/[\s,\]}]/.test(text[at])) at += 1;
    return at;
  }
  let depth = 0;
  while (at < text.length) {
    if (text[at] === '"') at = endOfString(text, at);
    else {
      if (text[at] === "{" || text[at] === "[") depth += 1;
      if (text[at] === "}" || text[at] === "]") depth -= 1;
      at += 1;
      if (depth === 0) return at;
    }
  }
  return at;
}

/** @param {string} text @param {number} open @param {string} name */
function memberOf(text, open, name) {
  let at = skipSpace(text, open + 1);
  while (text[at] === '"') {
    const start = at;
    at = endOfString(text, at);
    const here = textOf(text.slice(start, at));
    at = skipSpace(text, at);
    if (text[at] !== ":") return null;
    const value = skipSpace(text, at + 1);
    if (here === name) return { start, value };
    at = skipSpace(text, endOfValue(text, value));
    if (text[at] === ",") at = skipSpace(text, at + 1);
  }
  return null;
}

/** @param {string} quoted */
function textOf(quoted) {
  try {
    return JSON.parse(quoted);
  } catch {
    return quoted.slice(1, -1);
  }
}

/** @param {string} text @param {number} open @param {number} index */
function itemOf(text, open, index) {
  let at = skipSpace(text, open + 1);
  for (let nth = 0; at < text.length && text[at] !== "]"; nth += 1) {
    if (nth === index) return { start: at, value: at };
    const end = endOfValue(text, at);
    at = skipSpace(text, Math.max(end, at + 1));
    if (text[at] === ",") at = skipSpace(text, at + 1);
  }
  return null;
}

// --- YAML: block style by indents; for a value in flow style the line that contains it --------------

/** @param {string} text @param {string[]} names */
function inYaml(text, names) {
  const lines = yamlLines(text);
  let found = { start: 0, end: text.indexOf("\n") < 0 ? text.length : text.indexOf("\n") };
  let from = 0;
  let floor = -1;
  for (const name of names) {
    const next = childOf(lines, from, floor, name);
    if (!next) return { ...found, exact: false };
    found = { start: next.start, end: next.end };
    from = next.from;
    floor = next.indent;
  }
  return { ...found, exact: true };
}

/**
 * The lines as items and members with their indents: "- name: x" is an item, and a member two columns further.
 * @param {string} text
 */
function yamlLines(text) {
  /** @type {{ indent: number, item: boolean, key: string | null, start: number, end: number }[]} */
  const parts = [];
  let offset = 0;
  for (const line of text.split("\n")) {
    const end = offset + line.trimEnd().length;
    let indent = line.length - line.trimStart().length;
    let rest = line.trim();
    while (/^-(\s|$)/.test(rest)) {
      parts.push({ indent, item: true, key: null, start: offset + indent, end });
      const inner = rest.slice(1);
      indent += 1 + (inner.length - inner.trimStart().length);
      rest = inner.trim();
    }
    const key = /^(?:"([^"]*)"|'([^']*)'|([^\s#'"[{][^:#]*?))\s*:(?:\s|$)/.exec(rest);
    if (key) parts.push({ indent, item: false, key: key[1] ?? key[2] ?? key[3], start: offset + indent, end });
    offset += line.length + 1;
  }
  return parts;
}

/** @param {ReturnType<typeof yamlLines>} lines @param {number} from @param {number} floor @param {string} name */
function childOf(lines, from, floor, name) {
  let indent = -1;
  let nth = -1;
  for (let at = from; at < lines.length; at += 1) {
    const line = lines[at];
    // YAML permits a list at the indent of its own key.
    if (line.indent < floor || (line.indent === floor && !(line.item && indent <= floor && lines[from]?.item))) return null;
    if (indent < 0) indent = line.indent;
    if (line.indent !== indent) continue;
    if (line.item) nth += 1;
    if (line.item ? String(nth) === name : line.key === name) return { start: line.start, end: line.end, from: at + 1, indent: line.indent };
  }
  return null;
}
