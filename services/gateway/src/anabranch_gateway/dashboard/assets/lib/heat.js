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
 * What a cell of `size` members says at a glance: the tone of its worst news, and how far it is (0 to 1).
 * One failure among many is seen, for that is what one looks for.
 * @param {HeatCell} cell
 * @param {number} size
 * @returns {{ tone: "bad" | "running" | "good" | "idle", strength: number }}
 */
export function cellLook(cell, size) {
  const whole = Math.max(1, size);
  if (cell.failed > 0) return { tone: "bad", strength: 0.7 + (0.3 * cell.failed) / whole };
  // Paler than a failure: of what went well there is much.
  if (cell.done >= whole) return { tone: "good", strength: 0.66 };
  if (cell.running > 0) return { tone: "running", strength: 0.4 + (0.6 * (cell.done + cell.running)) / whole };
  if (cell.done > 0) return { tone: "good", strength: 0.2 + (0.4 * cell.done) / whole };
  return { tone: "idle", strength: 0.25 };
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
