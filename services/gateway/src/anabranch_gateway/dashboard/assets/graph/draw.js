// @ts-check
/** Draws a part of a graph on a canvas: the groups' boxes, then edges, then nodes, with the details that are legible. */

import { cellAppearance, cellSize, gridFor } from "../lib/heat.js";
import { appearanceOf } from "../lib/status.js";

/**
 * @typedef {{
 *   name: string, note: string, status: string, wide: boolean,
 *   share: { completed: number, failed: number, running: number } | null,
 *   heat: { total: number, per_cell: number, cells: import("../lib/heat.js").HeatCell[] } | null,
 * }} SceneNode `share`: the shares of its members by state, each 0 to 1
 * @typedef {{
 *   layout: import("./layout.js").Layout, nodes: SceneNode[], edges: import("./order.js").Edge[], framed: boolean,
 *   hidden: number,
 * }} Scene `hidden`: length of the prefix that all names of groups share
 * @typedef {{
 *   tones: Record<string, string>, soft: Record<string, string>, surface: string, frame: string, frameLine: string,
 *   line: string, edge: string, canvas: string, text: string, muted: string, accent: string, font: string, mono: string,
 * }} Palette
 * @typedef {import("./layout.js").Box} Box
 */

const CORNER = 7;
/** Minimum height of a part of a cell in pixels, so that one failure among thousands stays visible. */
const MIN_PART = 1.5;
/** Successes are paler than failures, because there are many of them. */
const HEAT_ALPHA = { bad: 1, good: 0.66, running: 0.8 };
const HEAT = { left: 12, top: 46, width: 172, height: 36 };
/** Minimum scales at which notes, names and icons are legible; below the last one only colours are drawn. */
export const LEGIBLE = { notes: 0.62, names: 0.4, icons: 0.34 };

/** @type {Map<string, Path2D>} */
const outlines = new Map();

/** @param {string} path */
function outline(path) {
  const known = outlines.get(path);
  if (known) return known;
  const parsed = new Path2D(path);
  outlines.set(path, parsed);
  return parsed;
}

/** @param {Box} a @param {Box} b */
const overlap = (a, b) =>
  a.x < b.x + b.width && b.x < a.x + a.width && a.y < b.y + b.height && b.y < a.y + a.height;

/**
 * Draws the part of the scene in the box `part`, with the context's origin at the box's upper left corner.
 * @param {CanvasRenderingContext2D} context already scaled to device pixels
 * @param {Scene} scene
 * @param {Box} part of the plane
 * @param {number} scale
 * @param {Palette} palette
 */
export function drawPart(context, scene, part, scale, palette) {
  context.save();
  context.scale(scale, scale);
  context.translate(-part.x, -part.y);
  if (scene.framed) drawFrames(context, scene, part, scale, palette);
  drawEdges(context, scene, part, scale, palette);
  scene.layout.nodes.forEach((box, nth) => {
    if (overlap(box, part)) drawNode(context, scene.nodes[nth], box, scale, palette);
  });
  context.restore();
}

/** @param {CanvasRenderingContext2D} context @param {Scene} scene @param {Box} part @param {number} scale @param {Palette} palette */
function drawFrames(context, { layout, hidden }, part, scale, palette) {
  context.lineWidth = Math.max(1, 0.75 / scale);
  for (const box of layout.boxes) {
    if (!overlap(box, part)) continue;
    rounded(context, box, 10);
    context.fillStyle = palette.frame;
    context.fill();
    context.strokeStyle = palette.frameLine;
    context.stroke();
    if (scale >= LEGIBLE.names) {
      context.fillStyle = palette.muted;
      context.font = `600 11px ${palette.font}`;
      context.fillText(truncated(context, hidden ? `…${box.group.slice(hidden)}` : box.group, box.width - 20), box.x + 11, box.y + 17);
    }
  }
}

/** @param {CanvasRenderingContext2D} context @param {Scene} scene @param {Box} part @param {number} scale @param {Palette} palette */
function drawEdges(context, scene, part, scale, palette) {
  context.beginPath();
  for (const [from, to] of scene.edges) {
    traceEdge(context, scene.layout.nodes[from], scene.layout.nodes[to], part);
  }
  context.lineWidth = Math.max(1.1, 0.6 / scale);
  context.strokeStyle = palette.edge;
  // Many edges on few pixels are drawn faint, else they would merge into one blot.
  context.globalAlpha = scene.edges.length > 400 ? Math.min(0.85, Math.max(0.22, scale * 1.1)) : 0.85;
  context.stroke();
  context.globalAlpha = 1;
}

/**
 * Adds an edge to the path if it may cross `part`.
 * @param {CanvasRenderingContext2D} context
 * @param {Box} from
 * @param {Box} to
 * @param {Box | null} part
 */
export function traceEdge(context, from, to, part) {
  const x0 = from.x + from.width;
  const y0 = from.y + from.height / 2;
  const x1 = to.x;
  const y1 = to.y + to.height / 2;
  const bend = Math.max(36, Math.min(160, Math.abs(x1 - x0) * 0.45));
  if (part) {
    const low = Math.min(x0, x1 - bend) - 2;
    const high = Math.max(x0 + bend, x1) + 2;
    if (high < part.x || low > part.x + part.width) return;
    if (Math.max(y0, y1) + 2 < part.y || Math.min(y0, y1) - 2 > part.y + part.height) return;
  }
  context.moveTo(x0, y0);
  context.bezierCurveTo(x0 + bend, y0, x1 - bend, y1, x1, y1);
}

/** @param {CanvasRenderingContext2D} context @param {SceneNode} node @param {Box} box @param {number} scale @param {Palette} palette */
function drawNode(context, node, box, scale, palette) {
  const appearance = appearanceOf(node.status);
  const tone = palette.tones[appearance.tone];
  if (scale < LEGIBLE.icons) {
    drawSimplified(context, node, box, appearance.tone, palette);
    return;
  }
  rounded(context, box, CORNER);
  context.fillStyle = palette.surface;
  context.fill();
  context.lineWidth = 1;
  context.strokeStyle = appearance.tone === "idle" ? palette.line : tone;
  context.stroke();
  drawIcon(context, appearance.path, tone, box.x + 11, box.y + 12, 16);
  const notes = scale >= LEGIBLE.notes && node.note !== "";
  context.fillStyle = palette.text;
  context.font = `550 12.5px ${palette.font}`;
  const maxWidth = box.width - 44;
  context.fillText(truncated(context, node.name, maxWidth), box.x + 35, box.y + (notes ? 17 : 24.5));
  if (notes) {
    context.fillStyle = palette.muted;
    context.font = `11px ${palette.font}`;
    context.fillText(truncated(context, node.note, maxWidth), box.x + 35, box.y + 32);
  }
  if (node.wide) drawMembers(context, node, box, palette);
}

/** Draws a node as a coloured box without text. @param {CanvasRenderingContext2D} context @param {SceneNode} node @param {Box} box @param {string} tone @param {Palette} palette */
function drawSimplified(context, node, box, tone, palette) {
  rounded(context, box, 9);
  context.fillStyle = palette.canvas;
  context.fill();
  context.fillStyle = tone === "idle" ? palette.soft.idle : palette.tones[tone];
  // Completed tasks are paler, so that others stand out among thousands.
  context.globalAlpha = tone === "good" ? 0.62 : 1;
  context.fill();
  context.globalAlpha = 1;
  if (node.wide) {
    context.save();
    context.fillStyle = palette.surface;
    context.fillRect(box.x + 6, box.y + 28, box.width - 12, box.height - 34);
    context.restore();
    drawMembers(context, node, box, palette);
  }
}

/** @param {CanvasRenderingContext2D} context @param {SceneNode} node @param {Box} box @param {Palette} palette */
function drawMembers(context, node, box, palette) {
  const area = { x: box.x + HEAT.left, y: box.y + HEAT.top, width: HEAT.width, height: HEAT.height };
  if (node.heat && node.heat.cells.length) drawHeat(context, node.heat, area, palette);
  else drawShares(context, node, area, palette);
}

/**
 * @param {CanvasRenderingContext2D} context
 * @param {NonNullable<SceneNode["heat"]>} heat
 * @param {Box} area
 * @param {Palette} palette
 * @param {{ maxSide?: number, gap?: number }} [limits]
 */
export function drawHeat(context, heat, area, palette, limits) {
  const grid = gridFor(heat.cells.length, area.width, area.height, limits);
  const pitch = grid.side + grid.gap;
  const minHeight = Math.min(grid.side, Math.max(MIN_PART / 2, Math.min(MIN_PART, 0.15 * grid.side)));
  heat.cells.forEach((cell, nth) => {
    const { parts, failed } = cellAppearance(cell, cellSize(nth, heat.per_cell, heat.total));
    const x = area.x + (nth % grid.columns) * pitch;
    const y = area.y + Math.floor(nth / grid.columns) * pitch;
    context.fillStyle = palette.soft.idle;
    context.fillRect(x, y, grid.side, grid.side);
    let top = y + grid.side;
    for (const { tone, share } of parts) {
      const height = Math.min(top - y, Math.max(share * grid.side, minHeight));
      top -= height;
      context.globalAlpha = HEAT_ALPHA[tone];
      context.fillStyle = palette.tones[tone];
      context.fillRect(x, top, grid.side, height);
    }
    context.globalAlpha = 1;
    if (failed && grid.side >= 5) drawCross(context, x, y, grid.side, palette.surface);
  });
  return grid;
}

/** A cross marks a cell with mostly failed members. @param {CanvasRenderingContext2D} context @param {number} x @param {number} y @param {number} side @param {string} colour */
function drawCross(context, x, y, side, colour) {
  const inner = side * 0.28;
  context.beginPath();
  context.moveTo(x + inner, y + inner);
  context.lineTo(x + side - inner, y + side - inner);
  context.moveTo(x + side - inner, y + inner);
  context.lineTo(x + inner, y + side - inner);
  context.lineWidth = Math.max(1, side * 0.12);
  context.strokeStyle = colour;
  context.stroke();
}

/** A bar of shares, shown until the heat map is loaded. @param {CanvasRenderingContext2D} context @param {SceneNode} node @param {Box} area @param {Palette} palette */
function drawShares(context, node, area, palette) {
  const bar = { x: area.x, y: area.y + 12, width: area.width, height: 10 };
  context.fillStyle = palette.soft.idle;
  context.fillRect(bar.x, bar.y, bar.width, bar.height);
  let x = bar.x;
  for (const [part, tone] of /** @type {[number, string][]} */ ([
    [node.share?.completed ?? 0, "good"],
    [node.share?.failed ?? 0, "bad"],
    [node.share?.running ?? 0, "running"],
  ])) {
    context.fillStyle = palette.tones[tone];
    context.fillRect(x, bar.y, bar.width * part, bar.height);
    x += bar.width * part;
  }
}

/** @param {CanvasRenderingContext2D} context @param {string} path @param {string} colour @param {number} x @param {number} y @param {number} size */
function drawIcon(context, path, colour, x, y, size) {
  context.save();
  context.translate(x, y);
  context.scale(size / 16, size / 16);
  context.fillStyle = colour;
  context.fill(outline(path), "evenodd");
  context.restore();
}

/** @param {CanvasRenderingContext2D} context @param {Box} box @param {number} radius */
export function rounded(context, box, radius) {
  context.beginPath();
  context.roundRect(box.x, box.y, box.width, box.height, radius);
}

/** @type {Map<string, string>} */
const truncatedTexts = new Map();

/**
 * The text, truncated in the middle to `maxWidth` pixels: names of one workflow differ at their ends.
 * @param {CanvasRenderingContext2D} context
 * @param {string} text
 * @param {number} maxWidth
 */
function truncated(context, text, maxWidth) {
  const key = `${context.font}|${maxWidth}|${text}`;
  const known = truncatedTexts.get(key);
  if (known !== undefined) return known;
  let shortened = text;
  for (let length = text.length - 1; length > 3 && context.measureText(shortened).width > maxWidth; length -= 1) {
    const head = Math.ceil(length * 0.4);
    shortened = `${text.slice(0, head)}…${text.slice(text.length - (length - head))}`;
  }
  // Measuring text is slow, and each tile draws the same names again.
  if (truncatedTexts.size > 20_000) truncatedTexts.clear();
  truncatedTexts.set(key, shortened);
  return shortened;
}
