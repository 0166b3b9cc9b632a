// @ts-check
/** The visible part of the plane: the point `x`, `y` is in the upper left corner; `scale` is pixels per unit. Pure. */

/** @typedef {{ x: number, y: number, scale: number }} Viewport */

export const MIN_SCALE = 0.03;
export const MAX_SCALE = 2.5;
const BUTTONS_WIDTH = 36;

/** @param {number} scale */
const bounded = (scale) => Math.min(MAX_SCALE, Math.max(MIN_SCALE, scale));

/**
 * The viewport that shows a whole box in the middle, at most at `maxScale`.
 * @param {import("./layout.js").Box} box
 * @param {number} width
 * @param {number} height
 * @param {number} [maxScale]
 * @returns {Viewport}
 */
export function fitted(box, width, height, maxScale = 1) {
  const margin = Math.min(28, width * 0.04);
  // On a wide canvas the picture leaves space for the buttons in the corner.
  const visible = width - (width > 600 ? BUTTONS_WIDTH : 0);
  const across = (visible - 2 * margin) / Math.max(1, box.width);
  const scale = bounded(Math.min(maxScale, across, (height - 2 * margin) / Math.max(1, box.height)));
  return centred(box, visible, height, scale);
}

/** @param {import("./layout.js").Box} box @param {number} width @param {number} height @param {number} scale @returns {Viewport} */
export function centred(box, width, height, scale) {
  return {
    x: box.x + box.width / 2 - width / scale / 2,
    y: box.y + box.height / 2 - height / scale / 2,
    scale,
  };
}

/**
 * Zooms by a factor around a point, which stays at its place.
 * @param {Viewport} view
 * @param {number} left
 * @param {number} top
 * @param {number} factor
 * @returns {Viewport}
 */
export function zoomed(view, left, top, factor) {
  const scale = bounded(view.scale * factor);
  return { x: view.x + left / view.scale - left / scale, y: view.y + top / view.scale - top / scale, scale };
}

/** @param {Viewport} view @param {number} dx pixels that the picture moves right @param {number} dy @returns {Viewport} */
export const panned = (view, dx, dy) => ({ ...view, x: view.x - dx / view.scale, y: view.y - dy / view.scale });

/**
 * Limits the viewport so that a part of the picture stays visible.
 * @param {Viewport} view
 * @param {{ width: number, height: number }} picture
 * @param {number} width
 * @param {number} height
 * @returns {Viewport}
 */
export function clamped(view, picture, width, height) {
  const margin = 80 / view.scale;
  return {
    ...view,
    x: Math.min(picture.width - margin, Math.max(margin - width / view.scale, view.x)),
    y: Math.min(picture.height - margin, Math.max(margin - height / view.scale, view.y)),
  };
}

/**
 * Moves the viewport by the smallest distance that shows a whole box with a margin.
 * @param {Viewport} view
 * @param {import("./layout.js").Box} box
 * @param {number} width
 * @param {number} height
 * @returns {Viewport}
 */
export function revealed(view, box, width, height) {
  const margin = 48 / view.scale;
  const along = (/** @type {number} */ at, /** @type {number} */ visible, /** @type {number} */ from, /** @type {number} */ size) =>
    from - margin < at ? from - margin : from + size + margin > at + visible ? from + size + margin - visible : at;
  return {
    ...view,
    x: along(view.x, width / view.scale, box.x, box.width),
    y: along(view.y, height / view.scale, box.y, box.height),
  };
}

/**
 * The node at a point of the plane, or -1. Inside of a loop's box it is a task of its body, where there is one.
 * @param {import("./layout.js").Box[]} boxes
 * @param {number} x
 * @param {number} y
 */
export function nodeAt(boxes, x, y) {
  let found = -1;
  boxes.forEach((box, nth) => {
    if (x < box.x || x > box.x + box.width || y < box.y || y > box.y + box.height) return;
    if (found < 0 || box.width * box.height < boxes[found].width * boxes[found].height) found = nth;
  });
  return found;
}

/**
 * The node that an arrow key selects: left a dependency of `node`, right a dependent, the one closest in height; up and
 * down the next node of its layer. -1 if there is none.
 * @param {"left" | "right" | "up" | "down"} direction
 * @param {number} node
 * @param {import("./layout.js").Layout} layout
 * @param {{ before: number[][], after: number[][] }} neighbours
 */
export function neighbourTowards(direction, node, layout, neighbours) {
  const here = layout.nodes[node];
  const middle = (/** @type {import("./layout.js").Box} */ box) => box.y + box.height / 2;
  const closest = (/** @type {number[]} */ among, /** @type {(box: import("./layout.js").Box) => number} */ distance) =>
    among.reduce((best, each) => (best < 0 || distance(layout.nodes[each]) < distance(layout.nodes[best]) ? each : best), -1);
  if (direction === "left" || direction === "right") {
    return closest(direction === "left" ? neighbours.before[node] : neighbours.after[node], (box) => Math.abs(middle(box) - middle(here)));
  }
  const sign = direction === "down" ? 1 : -1;
  const beside = layout.nodes.flatMap((box, each) =>
    each !== node && layout.layers[each] === layout.layers[node] && sign * (box.y - here.y) > 0 && box.x === here.x ? [each] : [],
  );
  return closest(beside, (box) => Math.abs(box.y - here.y));
}
