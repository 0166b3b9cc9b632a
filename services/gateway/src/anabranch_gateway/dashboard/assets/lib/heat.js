// @ts-check
/** Heat map of a fan-out: a grid of cells, each for a range of members; their layout and content. Pure. */

/** @typedef {{ done: number, failed: number, running: number }} HeatCell */

/**
 * The largest square cells of which `count` fit into a box, in rows from the left.
 * @param {number} count
 * @param {number} width
 * @param {number} height
 * @param {{ maxSide?: number, gap?: number }} [limits] `maxSide`: the largest side of a cell, without its gap
 */
export function gridFor(count, width, height, { maxSide = 14, gap = 1 } = {}) {
  if (count <= 0) return { columns: 0, rows: 0, side: 0, gap };
  let pitch = Math.min(maxSide + gap, Math.sqrt((width * height) / count));
  const fits = (/** @type {number} */ size) => Math.floor(width / size) * Math.floor(height / size) >= count;
  while (pitch > 0.5 && !fits(pitch)) pitch -= 0.25;
  const columns = Math.max(1, Math.min(count, Math.floor(width / pitch)));
  // With hardly a pixel for each cell, only the gaps would be visible.
  const between = pitch >= 3 ? gap : 0;
  return { columns, rows: Math.ceil(count / columns), side: pitch - between, gap: between };
}

/**
 * The parts of a cell of `size` members from below, each with its share (0 to 1) of them; and whether at least half of
 * them failed. `drawHeat` gives each part a minimum height, so that it is visible.
 * @param {HeatCell} cell
 * @param {number} size
 * @returns {{ parts: { tone: "bad" | "good" | "running", share: number }[], failed: boolean }}
 */
export function cellAppearance(cell, size) {
  const whole = Math.max(1, size);
  const parts = /** @type {["bad" | "good" | "running", number][]} */ ([["bad", cell.failed], ["good", cell.done], ["running", cell.running]]);
  return {
    parts: parts.filter(([, count]) => count > 0).map(([tone, count]) => ({ tone, share: Math.min(1, count / whole) })),
    failed: 2 * cell.failed >= whole,
  };
}

/**
 * The number of members of cell `nth`: the last one may have fewer.
 * @param {number} nth
 * @param {number} perCell
 * @param {number} total
 */
export const cellSize = (nth, perCell, total) => Math.max(0, Math.min(perCell, total - nth * perCell));

/**
 * "members 120 to 129: 8 done, 1 failed, 1 running".
 * @param {HeatCell} cell
 * @param {number} nth
 * @param {number} perCell
 * @param {number} total
 */
export function cellTitle(cell, nth, perCell, total) {
  const first = nth * perCell;
  const size = cellSize(nth, perCell, total);
  const members = size === 1 ? `member ${first}` : `members ${first} to ${first + size - 1}`;
  const waiting = size - cell.done - cell.failed - cell.running;
  const parts = [
    [cell.done, "done"],
    [cell.failed, "failed"],
    [cell.running, "running"],
    [waiting, "waiting"],
  ].filter(([count]) => Number(count) > 0);
  return `${members}: ${parts.map(([count, what]) => `${count} ${what}`).join(", ") || "nothing yet"}`;
}
