// @ts-check
/** Shows a JSON value with syntax colours; a long one is truncated. */

import { counted } from "../lib/format.js";
import { html, useMemo, useState } from "../vendor/index.js";
import { Copy } from "./components.js";

const MAX_CHARACTERS = 6000;
const TOKEN = /("(?:[^"\\]|\\.)*")(\s*:)?|\b(true|false|null)\b|(-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)/g;

/**
 * The tokens of a JSON text. Pure.
 * @param {string} text
 * @returns {{ kind: "plain" | "name" | "string" | "word" | "number", text: string }[]}
 */
export function tokens(text) {
  /** @type {{ kind: "plain" | "name" | "string" | "word" | "number", text: string }[]} */
  const found = [];
  let end = 0;
  for (const match of text.matchAll(TOKEN)) {
    if (match.index > end) found.push({ kind: "plain", text: text.slice(end, match.index) });
    const [whole, string, colon, word] = match;
    found.push({ kind: string ? (colon ? "name" : "string") : word ? "word" : "number", text: whole });
    end = match.index + whole.length;
  }
  if (end < text.length) found.push({ kind: "plain", text: text.slice(end) });
  return found;
}

/** @param {{ value: unknown, label: string }} properties */
export function Json({ value, label }) {
  const [all, setAll] = useState(false);
  const text = useMemo(() => JSON.stringify(value, null, 2) ?? "null", [value]);
  const shown = all || text.length < 1.5 * MAX_CHARACTERS ? text : text.slice(0, MAX_CHARACTERS);
  const pieces = useMemo(() => tokens(shown), [shown]);
  const hidden = text.length - shown.length;
  return html`<div class="json">
    <pre tabindex="0" role="region" aria-label=${label}>${pieces.map(({ kind, text }) => (kind === "plain" ? text : html`<span class=${`json-${kind}`}>${text}</span>`))}${hidden > 0 && "…"}</pre>
    <${Copy} text=${text} label=${label} />
    ${hidden > 0 && html`<button type="button" class="quiet" onClick=${() => setAll(true)}>Show ${counted(hidden, "more character")}</button>`}
  </div>`;
}
