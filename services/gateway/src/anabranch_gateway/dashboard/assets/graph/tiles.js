// @ts-check
/**
 * Cache of the picture in square bitmaps: panning copies them. Missing tiles are drawn for a few milliseconds in each
 * frame; until then the scaled tiles of the last complete level are shown.
 */

const SIDE = 384;
/** Milliseconds of a frame for drawing tiles: a frame has 16.7, and the browser needs the rest. */
const FRAME_BUDGET_MS = 9;
const MAX_TILES = 140;

/** @typedef {{ canvas: HTMLCanvasElement, stale: boolean, used: number }} Tile */

export class Tiles {
  #tiles = /** @type {Map<string, Tile>} */ (new Map());
  #frame = 0;
  #level = 0;
  /** The last level that was complete. */
  #fallbackLevel = 0;

  /** @param {(context: CanvasRenderingContext2D, part: import("./layout.js").Box, scale: number) => void} draw fills all of its part */
  constructor(draw) {
    this.draw = draw;
  }

  /** Drops all tiles, because colours or layout have changed. */
  clear() {
    this.#tiles.clear();
    this.#fallbackLevel = 0;
  }

  /** Marks the tiles that overlap `boxes`, to be drawn again in a next frame. @param {import("./layout.js").Box[]} boxes */
  invalidate(boxes) {
    for (const [key, tile] of this.#tiles) {
      const [scale, column, row] = key.split(" ").map(Number);
      const side = SIDE / scale;
      const overlaps = boxes.some(
        (box) =>
          box.x - 2 < (column + 1) * side && box.x + box.width + 2 > column * side &&
          box.y - 2 < (row + 1) * side && box.y + box.height + 2 > row * side,
      );
      if (overlaps) tile.stale = true;
    }
  }

  /**
   * Paints the viewport; returns false if tiles are missing, which a next frame has to draw.
   * @param {CanvasRenderingContext2D} context in CSS pixels times `density`
   * @param {import("./viewport.js").Viewport} view
   * @param {number} width
   * @param {number} height
   * @param {number} density
   * @param {boolean} zooming the scale is still changing: draw nothing new
   * @param {() => number} now milliseconds
   */
  paint(context, view, width, height, density, zooming, now) {
    this.#frame += 1;
    if (!zooming || this.#level === 0) this.#level = view.scale;
    const level = this.#level;
    if (this.#fallbackLevel && this.#fallbackLevel !== level) this.#copy(context, view, width, height, this.#fallbackLevel);
    const end = now() + FRAME_BUDGET_MS;
    const missing = [];
    let drawn = 0;
    for (const position of tilesIn(view, width, height, level)) {
      const tile = this.#tiles.get(`${level} ${position.column} ${position.row}`);
      const due = !tile || tile.stale;
      // At least one tile in each frame, so that slow machines make progress too.
      if (due && !zooming && (drawn === 0 || now() < end)) {
        this.#make(position, level, density);
        drawn += 1;
      } else if (due) {
        missing.push(position);
      }
    }
    this.#copy(context, view, width, height, level);
    if (!missing.length && !zooming) this.#fallbackLevel = level;
    this.#trim();
    return missing.length === 0;
  }

  /** @param {{ column: number, row: number }} position @param {number} level @param {number} density */
  #make({ column, row }, level, density) {
    const key = `${level} ${column} ${row}`;
    const canvas = this.#tiles.get(key)?.canvas ?? document.createElement("canvas");
    canvas.width = canvas.height = Math.ceil(SIDE * density);
    const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d", { alpha: false }));
    context.scale(density, density);
    const side = SIDE / level;
    this.draw(context, { x: column * side, y: row * side, width: side, height: side }, level);
    this.#tiles.set(key, { canvas, stale: false, used: this.#frame });
  }

  /** @param {CanvasRenderingContext2D} context @param {import("./viewport.js").Viewport} view @param {number} width @param {number} height @param {number} level */
  #copy(context, view, width, height, level) {
    const size = (SIDE * view.scale) / level;
    const crisp = Math.abs(size - SIDE) < 0.001;
    for (const { column, row } of tilesIn(view, width, height, level)) {
      const tile = this.#tiles.get(`${level} ${column} ${row}`);
      if (!tile) continue;
      tile.used = this.#frame;
      const x = column * size - view.x * view.scale;
      const y = row * size - view.y * view.scale;
      // At whole pixels, else the browser would blur the bitmap.
      if (crisp) context.drawImage(tile.canvas, Math.round(x), Math.round(y), SIDE, SIDE);
      else context.drawImage(tile.canvas, x, y, size, size);
    }
  }

  #trim() {
    if (this.#tiles.size <= MAX_TILES) return;
    const oldest = [...this.#tiles].sort(([, a], [, b]) => a.used - b.used);
    for (const [key, tile] of oldest.slice(0, this.#tiles.size - MAX_TILES)) {
      if (tile.used < this.#frame) this.#tiles.delete(key);
    }
  }
}

/** @param {import("./viewport.js").Viewport} view @param {number} width @param {number} height @param {number} level */
function tilesIn(view, width, height, level) {
  const side = SIDE / level;
  const positions = [];
  for (let row = Math.floor(view.y / side); row * side < view.y + height / view.scale; row += 1) {
    for (let column = Math.floor(view.x / side); column * side < view.x + width / view.scale; column += 1) {
      positions.push({ column, row });
    }
  }
  return positions;
}
