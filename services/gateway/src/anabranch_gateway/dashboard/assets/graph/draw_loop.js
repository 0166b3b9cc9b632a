// @ts-check
/** Draws a loop: a box around its body, whose head has its name, its end and a strip of its iterations. */

import { stripOf, textOfLoop } from "../lib/flow.js";
import { appearanceOf } from "../lib/status.js";
import { LEGIBLE, drawIcon, rounded, truncated } from "./draw.js";

/**
 * @typedef {import("./layout.js").Box} Box
 * @typedef {import("./draw.js").Palette} Palette
 */

const CELL = { max: 11, min: 4 };
const STRIP = { left: 14, top: 43, height: 11, right: 14 };
/** Width of the number of iterations, beside the name. */
const COUNT_WIDTH = 150;
/** Cells of a strip at most; a loop may have a million iterations. */
const MAX_CELLS = 50;
const LOOP_PATH = "M8 2.2a5.8 5.8 0 0 1 5.1 3l1.4-1.4v4.4h-4.4l1.6-1.6A3.9 3.9 0 0 0 4.3 7H2.3A5.8 5.8 0 0 1 8 2.2ZM1.5 7.8h4.4L4.3 9.4A3.9 3.9 0 0 0 11.7 9h2A5.8 5.8 0 0 1 2.9 10.800L1.5 12.200Z";

/** The cells of a loop's strip, with the place of each on the plane. @param {import("./draw.js").SceneNode} node @param {Box} box */
export function stripCells(node, box) {
  const space = box.width - STRIP.left - STRIP.right;
  const { cells, earlier } = stripOf(node.loop, Math.min(MAX_CELLS, Math.floor(space / CELL.min)));
  const pitch = Math.min(CELL.max, space / Math.max(1, cells.length));
  const placed = cells.map((cell, nth) => ({
    ...cell, x: box.x + STRIP.left + nth * pitch, y: box.y + STRIP.top, width: pitch * 0.8, height: STRIP.height,
  }));
  return { cells: placed, earlier };
}

/** @param {CanvasRenderingContext2D} context @param {import("./draw.js").SceneNode} node @param {Box} box @param {number} scale @param {Palette} palette */
export function drawLoop(context, node, box, scale, palette) {
  const appearance = appearanceOf(node.status);
  const tone = appearance.tone === "idle" ? palette.line : palette.tones[appearance.tone];
  rounded(context, box, 12);
  context.fillStyle = palette.frame;
  context.fill();
  context.lineWidth = Math.max(1.4, 1 / scale);
  context.strokeStyle = tone;
  if (node.status === "skipped") context.setLineDash([4, 4]);
  context.stroke();
  context.setLineDash([]);
  drawCells(context, node, box, palette);
  if (scale < LEGIBLE.icons) return;
  drawIcon(context, appearance.path, palette.tones[appearance.tone], box.x + 13, box.y + 11, 16);
  drawIcon(context, LOOP_PATH, palette.muted, box.x + box.width - 26, box.y + 9, 15);
  if (scale < LEGIBLE.names) return;
  context.fillStyle = palette.text;
  context.font = `620 12.5px ${palette.font}`;
  const known = scale >= LEGIBLE.notes;
  context.fillText(truncated(context, node.name, box.width - 70 - (known ? COUNT_WIDTH : 0)), box.x + 37, box.y + 18);
  if (!known) return;
  context.fillStyle = palette.muted;
  context.font = `11px ${palette.font}`;
  context.fillText(truncated(context, node.bound, box.width - 52, false), box.x + 37, box.y + 33);
  const text = truncated(context, textOfLoop(node.loop), COUNT_WIDTH, false);
  context.fillText(text, box.x + box.width - 34 - context.measureText(text).width, box.y + 18);
}

/** @param {CanvasRenderingContext2D} context @param {import("./draw.js").SceneNode} node @param {Box} box @param {Palette} palette */
function drawCells(context, node, box, palette) {
  for (const cell of stripCells(node, box).cells) {
    context.globalAlpha = cell.tone === "good" ? 0.66 : 1;
    context.fillStyle = palette.tones[cell.tone];
    context.fillRect(cell.x, cell.y, cell.width, cell.height);
    context.globalAlpha = 1;
    // A shape for people who cannot distinguish the colours: a failed iteration has a gap in the middle.
    if (cell.tone === "bad") {
      context.fillStyle = palette.frame;
      context.fillRect(cell.x, cell.y + cell.height / 2 - 1, cell.width, 2);
    }
  }
}

/** Lets the running iteration glow; `phase` is 0 to 1. @param {CanvasRenderingContext2D} context @param {import("./draw.js").SceneNode} node @param {Box} box @param {number} phase @param {Palette} palette */
export function drawPulse(context, node, box, phase, palette) {
  const cell = stripCells(node, box).cells.at(-1);
  if (!cell?.running) return;
  const grown = 1 + 2.5 * phase;
  context.globalAlpha = 0.75 * (1 - phase);
  context.strokeStyle = palette.tones.running;
  context.lineWidth = 1.6;
  context.strokeRect(cell.x - grown, cell.y - grown, cell.width + 2 * grown, cell.height + 2 * grown);
  context.globalAlpha = 1;
}
