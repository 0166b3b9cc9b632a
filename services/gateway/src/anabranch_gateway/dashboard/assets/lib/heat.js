// @ts-check
/** A fan-out as a grid of cells, each for some members: how the grid is laid out and what each cell says. Pure. */

/** @typedef {{ done: number, failed: number, running: number }} HeatCell */

/**
 * The largest square cells that let `count` of them into a box, in rows from the left.
 * @param {number} count
 * @param {number} width
 * @param {number} height
 * @param {{ most?: number, gap?: number }} [limits] `most`: the largest side of a cell, without its gap
 */
export function gridFor(count, width, height, { most = 14, gap = 1 } = {}) {
  if (count <= 0) return { columns: 0, rows: 0, side: 0, gap };
  let pitch = Math.min(most + gap, Math.sqrt((width * height) / count));
  const fits = (/** @type {number} */ size) => Math.floor(width / size) * Math.floor(height / size) >= count;
  while (pitch > 0.5 && !fits(pitch)) pitch -= 0.25;
  const columns = Math.max(1, Math.min(count, Math.floor(width / pitch)));
  // Where there is hardly a pixel for each, a gap would be all that is seen.
  const between = pitch >= 3 ? gap : 0;
  return { columns, rows: Math.ceil(count / columns), side: pitch - between, gap: between };
}

/**
 * What fills a cell of `size` members, from below, each part as high as its share (0 to 1) of them; and whether most
 * of it failed. A part that is there is seen however small it is: see `drawHeat`.
 * @param {HeatCell} cell
 * @param {number} size
 * @returns {{ parts: { tone: "bad" | "good" | "running", share: number }[], failed: boolean }}
 */
export function cellLook(cell, size) {
  const whole = Math.max(1, size);
  const parts = /** @type {["bad" | "good" | "running", number][]} */ ([["bad", cell.failed], ["good", cell.done], ["running", cell.running]]);
  return {
    parts: parts.filter(([, count]) => count > 0).map(([tone, count]) => ({ tone, share: Math.min(1, count / whole) })),
    failed: 2 * cell.failed >= whole,
  };
}

/**
 * How many members cell `nth` stands for: the last one may have fewer.
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
