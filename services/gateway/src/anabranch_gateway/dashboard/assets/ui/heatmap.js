// @ts-check
/** The heat map of a fan-out: each cell is a range of members; a click opens it. */

import { drawHeat } from "../graph/draw.js";
import { readPalette } from "../graph/palette.js";
import { cellTitle, gridFor } from "../lib/heat.js";
import { counted } from "../lib/format.js";
import { useApp } from "../lib/hooks.js";
import { html, useEffect, useRef, useState } from "../vendor/index.js";

const LEGEND = [["good", "done"], ["running", "running"], ["bad", "failed (cross: half or more)"], ["idle", "waiting"]];
const LIMITS = { maxSide: 20, gap: 2 };

/** @param {{ heat: any, height?: number, onChoose: (first: number) => void }} properties */
export function HeatMap({ heat, height = 96, onChoose }) {
  const { theme } = useApp();
  const canvas = useRef(/** @type {any} */ (null));
  const [title, setTitle] = useState("");
  const area = () => ({ x: 0, y: 0, width: canvas.current.clientWidth, height: canvas.current.clientHeight });
  useEffect(() => {
    const paint = () => {
      const element = canvas.current;
      const density = Math.min(2, devicePixelRatio || 1);
      element.width = Math.round(element.clientWidth * density);
      element.height = Math.round(element.clientHeight * density);
      const context = element.getContext("2d");
      context.scale(density, density);
      drawHeat(context, heat, area(), readPalette(), LIMITS);
    };
    paint();
    const resizing = new ResizeObserver(paint);
    resizing.observe(canvas.current);
    const unwatch = theme.watch(paint);
    return () => (resizing.disconnect(), unwatch());
  }, [heat]);
  const cellAt = (/** @type {MouseEvent} */ event) => {
    const grid = gridFor(heat.cells.length, area().width, area().height, LIMITS);
    const pitch = grid.side + grid.gap;
    const column = Math.floor(event.offsetX / pitch);
    const nth = Math.floor(event.offsetY / pitch) * grid.columns + column;
    return column < grid.columns && nth < heat.cells.length ? nth : -1;
  };
  const sum = (/** @type {"done" | "failed" | "running"} */ field) => heat.cells.reduce((/** @type {number} */ all, /** @type {any} */ cell) => all + cell[field], 0);
  const summary = `Heat map of ${counted(heat.total, "member")}: ${sum("done")} done, ${sum("failed")} failed, ${sum("running")} running`;
  return html`<div class="heatmap">
    <canvas ref=${canvas} role="img" aria-label=${summary} title=${title} style=${{ height: `${height}px` }}
      onMouseMove=${(/** @type {MouseEvent} */ event) => setTitle(cellAt(event) < 0 ? "" : cellTitle(heat.cells[cellAt(event)], cellAt(event), heat.per_cell, heat.total))}
      onClick=${(/** @type {MouseEvent} */ event) => cellAt(event) >= 0 && onChoose(cellAt(event) * heat.per_cell)}></canvas>
    <p class="hint heat-key">${LEGEND.map(([tone, text]) => html`<span key=${tone}><span class=${`swatch tone-${tone}`}></span>${text}</span>`)}<span>${heat.per_cell === 1 ? "Each cell is one member." : `Each cell is ${counted(heat.per_cell, "member")}, filled by share.`}</span></p>
  </div>`;
}
