// @ts-check
/** Draws a part of a graph on a canvas: the groups' boxes, then edges, then nodes, with the details that are legible. */

import { cellAppearance, cellSize, gridFor } from "../lib/heat.js";
import { appearanceOf } from "../lib/status.js";
import { PHASES } from "../lib/flow.js";
import { drawLoop } from "./draw_loop.js";

/**
 * @typedef {{
 *   name: string, note: string, status: string, wide: boolean,
 *   share: { completed: number, failed: number, running: number } | null,
 *   heat: { total: number, per_cell: number, cells: import("../lib/heat.js").HeatCell[] } | null,
 *   kind: string, bound: string, loop: import("../lib/flow.js").LoopState | null,
 * }} SceneNode `share`: the shares of its members by state, each 0 to 1; `bound`: what ends a loop
 * @typedef {{
 *   layout: import("./layout.js").Layout, nodes: SceneNode[], edges: import("./order.js").Edge[], framed: boolean,
 *   hidden: number, marks: Map<number, import("../lib/flow.js").EdgeMark>,
 * }} Scene `hidden`: length of the prefix that all names of groups share; `marks`: edges that are no plain dependencies
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
/** Width of the condition at the end of an edge. */
const LABEL = 124;
const HEAT = { left: 12, top: 46, width: 172, height: 36 };
/** Minimum scales at which notes, names and icons are legible; below the last one only colours are drawn. */
export const LEGIBLE = { notes: 0.62, names: 0.4, icons: 0.34 };

/** A fork, a clock and a box in a box, in a square of 16 by 16. */
const KIND_PATHS = /** @type {Record<string, string>} */ ({
  switch: "M1 7h4.6l4-5H15v2h-4.4L7.8 7.5L10.6 12H15v2H9.6l-4-5H1Z",
  wait: "M8 1.75a6.25 6.25 0 1 0 0 12.5a6.25 6.25 0 1 0 0-12.5ZM8 3.4a4.6 4.6 0 1 1 0 9.2a4.6 4.6 0 1 1 0-9.2ZM7.2 4.6h1.6v3.1l2.1 1.3l-.8 1.3l-2.9-1.8Z",
  run: "M1.5 1.5h13v13h-13ZM3.1 3.1v9.8h9.8V3.1ZM5 5h6v6H5ZM6.4 6.4v3.2h3.2V6.4Z",
});

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
  drawSections(context, scene, part, scale, palette);
  if (scene.framed) drawFrames(context, scene, part, scale, palette);
  // Loops first: their bodies and the edges in them are on top. A loop is before those in it.
  scene.layout.nodes.forEach((box, nth) => {
    if (box.head && overlap(box, part)) drawLoop(context, scene.nodes[nth], box, scale, palette);
  });
  drawEdges(context, scene, part, scale, palette);
  scene.layout.nodes.forEach((box, nth) => {
    if (!box.head && overlap(box, part)) drawNode(context, scene.nodes[nth], box, scale, palette);
  });
  if (scale >= LEGIBLE.notes) drawLabels(context, scene, part, palette);
  context.restore();
}

/** The phases of the run's end, apart from the others. @param {CanvasRenderingContext2D} context @param {Scene} scene @param {Box} part @param {number} scale @param {Palette} palette */
function drawSections(context, { layout, framed }, part, scale, palette) {
  if (!framed) return;
  for (const box of layout.sections) {
    if (!overlap(box, part)) continue;
    context.save();
    context.setLineDash([7, 5]);
    context.lineWidth = Math.max(1.2, 0.9 / scale);
    rounded(context, box, 12);
    context.strokeStyle = palette.line;
    context.stroke();
    context.restore();
    if (scale < LEGIBLE.names) continue;
    context.fillStyle = palette.muted;
    context.font = `600 11px ${palette.font}`;
    context.fillText(truncated(context, PHASES[box.section] ?? box.section, box.width - 22, false), box.x + 13, box.y + 19);
  }
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
  scene.edges.forEach(([from, to], nth) => {
    const look = scene.marks.size ? (scene.marks.get(nth)?.look ?? "plain") : "plain";
    if (look === "plain") traceEdge(context, scene.layout.nodes[from], scene.layout.nodes[to], part);
  });
  context.lineWidth = Math.max(1.1, 0.6 / scale);
  context.strokeStyle = palette.edge;
  // Many edges on few pixels are drawn faint, else they would merge into one blot.
  context.globalAlpha = scene.edges.length > 400 ? Math.min(0.85, Math.max(0.22, scale * 1.1)) : 0.85;
  context.stroke();
  context.globalAlpha = 1;
  for (const [nth, { look }] of scene.marks) {
    if (look !== "plain" && look !== "inside") drawMarked(context, scene, nth, look, part, scale, palette);
  }
}

/** An edge of a switch, or one from a task that may end in any way. @param {CanvasRenderingContext2D} context @param {Scene} scene @param {number} nth @param {string} look @param {Box} part @param {number} scale @param {Palette} palette */
function drawMarked(context, scene, nth, look, part, scale, palette) {
  const [from, to] = scene.edges[nth];
  context.save();
  context.beginPath();
  traceEdge(context, scene.layout.nodes[from], scene.layout.nodes[to], part);
  context.lineWidth = Math.max(look === "chosen" ? 2.2 : 1.1, (look === "chosen" ? 1.2 : 0.6) / scale);
  context.strokeStyle = look === "chosen" ? palette.tones.good : palette.edge;
  context.setLineDash(look === "other" ? [3, 5] : look === "optional" ? [6, 4] : []);
  context.globalAlpha = look === "other" ? 0.7 : 0.9;
  context.stroke();
  context.restore();
}

/** The conditions of cases, each left of its task. @param {CanvasRenderingContext2D} context @param {Scene} scene @param {Box} part @param {Palette} palette */
function drawLabels(context, scene, part, palette) {
  context.font = `10.5px ${palette.font}`;
  context.lineJoin = "round";
  for (const [nth, { label, look }] of scene.marks) {
    const box = scene.layout.nodes[scene.edges[nth][1]];
    const area = { x: box.x - LABEL, y: box.y, width: LABEL, height: box.height };
    if (!label || !overlap(area, part)) continue;
    const text = truncated(context, label, LABEL - 12, false);
    const x = box.x - 7 - context.measureText(text).width;
    const y = box.y + box.height / 2 - 6;
    context.lineWidth = 3.5;
    context.strokeStyle = palette.canvas;
    context.strokeText(text, x, y);
    context.fillStyle = look === "chosen" ? palette.tones.good : palette.muted;
    context.fillText(text, x, y);
  }
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
  const skipped = node.status === "skipped";
  rounded(context, box, CORNER);
  context.fillStyle = skipped ? palette.canvas : palette.surface;
  context.fill();
  context.lineWidth = 1;
  context.strokeStyle = appearance.tone === "idle" ? palette.line : tone;
  if (skipped) context.setLineDash([4, 4]);
  context.stroke();
  context.setLineDash([]);
  if (node.kind !== "task") drawKind(context, node.kind, box, palette);
  drawIcon(context, appearance.path, tone, box.x + 11, box.y + 12, 16);
  const notes = scale >= LEGIBLE.notes && node.note !== "";
  context.fillStyle = skipped ? palette.muted : palette.text;
  context.font = `550 12.5px ${palette.font}`;
  const maxWidth = box.width - (node.kind === "task" ? 44 : 62);
  context.fillText(truncated(context, node.name, maxWidth), box.x + 35, box.y + (notes ? 17 : 24.5));
  if (notes) {
    context.fillStyle = palette.muted;
    context.font = `11px ${palette.font}`;
    context.fillText(truncated(context, node.note, box.width - 44, node.kind === "task" && !skipped), box.x + 35, box.y + 32);
  }
  if (node.wide) drawMembers(context, node, box, palette);
}

/** The shape of a kind of step, in the upper right corner. @param {CanvasRenderingContext2D} context @param {string} kind @param {Box} box @param {Palette} palette */
function drawKind(context, kind, box, palette) {
  const path = KIND_PATHS[kind];
  if (path) drawIcon(context, path, palette.muted, box.x + box.width - 21, box.y + 6, 14);
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
export function drawIcon(context, path, colour, x, y, size) {
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
 * The text, truncated to `maxWidth` pixels, in the middle: names of one workflow differ at their ends. Sentences are
 * truncated at the end.
 * @param {CanvasRenderingContext2D} context
 * @param {string} text
 * @param {number} maxWidth
 * @param {boolean} [inMiddle]
 */
export function truncated(context, text, maxWidth, inMiddle = true) {
  const key = `${context.font}|${maxWidth}|${inMiddle}|${text}`;
  const known = truncatedTexts.get(key);
  if (known !== undefined) return known;
  let shortened = text;
  for (let length = text.length - 1; length > 3 && context.measureText(shortened).width > maxWidth; length -= 1) {
    const head = inMiddle ? Math.ceil(length * 0.4) : length;
    shortened = `${text.slice(0, head)}…${text.slice(text.length - (length - head))}`;
  }
  // Measuring text is slow, and each tile draws the same names again.
  if (truncatedTexts.size > 20_000) truncatedTexts.clear();
  truncatedTexts.set(key, shortened);
  return shortened;
}
