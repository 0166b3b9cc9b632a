// @ts-check
/**
 * A picture of the plane in square pieces that are drawn once and then moved: panning copies bitmaps. What is missing is
 * drawn a few milliseconds' worth for each frame; until then the pieces of the last scale stand in for it.
 */

const SIDE = 384;
/** Milliseconds of one frame that may go into drawing pieces. */
const BUDGET = 9;
const MOST_TILES = 140;

/** @typedef {{ canvas: HTMLCanvasElement, stale: boolean, used: number }} Tile */

export class Tiles {
  #tiles = /** @type {Map<string, Tile>} */ (new Map());
  #frame = 0;
  #level = 0;
  /** The scale whose pieces were all there last. */
  #standIn = 0;

  /** @param {(context: CanvasRenderingContext2D, part: import("./layout.js").Box, scale: number) => void} draw fills all of its part */
  constructor(draw) {
    this.draw = draw;
  }

  /** Forgets everything: colours or layout have changed. */
  clear() {
    this.#tiles.clear();
    this.#standIn = 0;
  }

  /** Has the pieces that show something of `boxes` drawn again, in time. @param {import("./layout.js").Box[]} boxes */
  touch(boxes) {
    for (const [key, tile] of this.#tiles) {
      const [scale, column, row] = key.split(" ").map(Number);
      const side = SIDE / scale;
      const touched = boxes.some(
        (box) =>
          box.x - 2 < (column + 1) * side && box.x + box.width + 2 > column * side &&
          box.y - 2 < (row + 1) * side && box.y + box.height + 2 > row * side,
      );
      if (touched) tile.stale = true;
    }
  }

  /**
   * Paints the viewport; false where more is to be drawn in a next frame.
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
    if (this.#standIn && this.#standIn !== level) this.#copy(context, view, width, height, this.#standIn);
    const end = now() + BUDGET;
    const missing = [];
    let drawn = 0;
    for (const place of placesIn(view, width, height, level)) {
      const tile = this.#tiles.get(`${level} ${place.column} ${place.row}`);
      const due = !tile || tile.stale;
      if (due && !zooming && (drawn === 0 || now() < end)) {
        this.#make(place, level, density);
        drawn += 1;
      } else if (due) {
        missing.push(place);
      }
    }
    this.#copy(context, view, width, height, level);
    if (!missing.length && !zooming) this.#standIn = level;
    this.#trim();
    return missing.length === 0;
  }

  /** @param {{ column: number, row: number }} place @param {number} level @param {number} density */
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
    for (const { column, row } of placesIn(view, width, height, level)) {
      const tile = this.#tiles.get(`${level} ${column} ${row}`);
      if (!tile) continue;
      tile.used = this.#frame;
      const x = column * size - view.x * view.scale;
      const y = row * size - view.y * view.scale;
      if (crisp) context.drawImage(tile.canvas, Math.round(x), Math.round(y), SIDE, SIDE);
      else context.drawImage(tile.canvas, x, y, size, size);
    }
  }

  #trim() {
    if (this.#tiles.size <= MOST_TILES) return;
    const oldest = [...this.#tiles].sort(([, a], [, b]) => a.used - b.used);
    for (const [key, tile] of oldest.slice(0, this.#tiles.size - MOST_TILES)) {
      if (tile.used < this.#frame) this.#tiles.delete(key);
    }
  }
}

/** @param {import("./viewport.js").Viewport} view @param {number} width @param {number} height @param {number} level */
function placesIn(view, width, height, level) {
  const side = SIDE / level;
  const places = [];
  for (let row = Math.floor(view.y / side); row * side < view.y + height / view.scale; row += 1) {
    for (let column = Math.floor(view.x / side); column * side < view.x + width / view.scale; column += 1) {
      places.push({ column, row });
    }
  }
  return places;
}
