// @ts-check
/** Reads the colours of the style sheet, because a canvas cannot use CSS variables. */

import { TONES } from "../lib/status.js";

/** @returns {import("./draw.js").Palette} */
export function readPalette() {
  const style = getComputedStyle(document.documentElement);
  const value = (/** @type {string} */ name) => style.getPropertyValue(name).trim();
  return {
    tones: Object.fromEntries(TONES.map((tone) => [tone, value(`--tone-${tone}`)])),
    soft: Object.fromEntries(TONES.map((tone) => [tone, value(`--soft-${tone}`)])),
    canvas: value("--canvas"),
    surface: value("--surface"),
    frame: value("--frame"),
    frameLine: value("--frame-line"),
    line: value("--line-strong"),
    edge: value("--edge"),
    text: value("--text"),
    muted: value("--muted"),
    accent: value("--accent"),
    font: value("--font"),
    mono: value("--mono"),
  };
}
