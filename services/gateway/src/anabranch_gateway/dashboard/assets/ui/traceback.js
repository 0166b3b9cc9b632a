// @ts-check
/** The traceback of a failed attempt, folded below the place where it was raised. */

import { Copy } from "./parts.js";
import { html } from "../vendor/index.js";

const FRAME = /^[ |]*File "(.+)", line (\d+), in (.+)$/;

/**
 * Where an exception was raised, in short: `pages.py:17 in read`. Null where the text names no frame.
 * @param {string} traceback
 */
export function raisedAt(traceback) {
  const frames = traceback.split("\n").map((line) => FRAME.exec(line)).filter((found) => found !== null);
  const last = frames.at(-1);
  return last ? `${(last[1] ?? "").split(/[\\/]/).at(-1)}:${last[2]} in ${last[3]}` : null;
}

/** @param {{ text: string | null | undefined }} properties */
export function Traceback({ text }) {
  if (!text) return null;
  const place = raisedAt(text);
  return html`<details class="traceback"><summary>Traceback${place && html` <code>${place}</code>`}</summary>
    <div class="json"><pre tabindex="0" role="region" aria-label="Traceback">${text.trimEnd()}</pre><${Copy} text=${text} label="the traceback" /></div>
  </details>`;
}
