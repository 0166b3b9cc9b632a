// @ts-check
/** The traceback of a failed attempt, collapsed below the location where it was raised. */

import { Copy } from "./components.js";
import { html } from "../vendor/index.js";

const FRAME = /^[ |]*File "(.+)", line (\d+), in (.+)$/;

/**
 * The location where an exception was raised: `pages.py:17 in read`. Null if the text has no frame.
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
  const location = raisedAt(text);
  return html`<details class="traceback"><summary>Traceback${location && html` <code>${location}</code>`}</summary>
    <div class="json"><pre tabindex="0" role="region" aria-label="Traceback">${text.trimEnd()}</pre><${Copy} text=${text} label="the traceback" /></div>
  </details>`;
}
