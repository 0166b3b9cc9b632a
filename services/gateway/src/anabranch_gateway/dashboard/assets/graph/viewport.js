// @ts-check
/** What of the plane is seen: `x`, `y` is the point in the upper left corner, `scale` pixels for each unit. Pure. */

/** @typedef {{ x: number, y: number, scale: number }} Viewport */

export const LEAST_SCALE = 0.03;
export const MOST_SCALE = 2.5;
const BUTTONS = 36;

/** @param {number} scale */
const bounded = (scale) => Math.min(MOST_SCALE, Math.max(LEAST_SCALE, scale));

/**
 * All of a box in the middle, no larger than `most`.
 * @param {import("./layout.js").Box} box
 * @param {number} width
 * @param {number} height
 * @param {number} [most]
 * @returns {Viewport}
 */
export function fitted(box, width, height, most = 1) {
  const margin = Math.min(28, width * 0.04);
  // The buttons in the corner cover nothing where there is room for them beside the picture.
  const seen = width - (width > 600 ? BUTTONS : 0);
  const across = (seen - 2 * margin) / Math.max(1, box.width);
  const scale = bounded(Math.min(most, across, (height - 2 * margin) / Math.max(1, box.height)));
  return centred(box, seen, height, scale);
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
 * Zoomed by a factor so that what is under the point stays there.
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
 * Kept where some of the picture is seen.
 * @param {Viewport} view
 * @param {{ width: number, height: number }} picture
 * @param {number} width
 * @param {number} height
 * @returns {Viewport}
 */
export function held(view, picture, width, height) {
  const room = 80 / view.scale;
  return {
    ...view,
    x: Math.min(picture.width - room, Math.max(room - width / view.scale, view.x)),
    y: Math.min(picture.height - room, Math.max(room - height / view.scale, view.y)),
  };
}

/**
 * Moved as little as shows all of a box, with some room around it.
 * @param {Viewport} view
 * @param {import("./layout.js").Box} box
 * @param {number} width
 * @param {number} height
 * @returns {Viewport}
 */
export function showing(view, box, width, height) {
  const room = 48 / view.scale;
  const along = (/** @type {number} */ at, /** @type {number} */ seen, /** @type {number} */ from, /** @type {number} */ size) =>
    from - room < at ? from - room : from + size + room > at + seen ? from + size + room - seen : at;
  return {
    ...view,
    x: along(view.x, width / view.scale, box.x, box.width),
    y: along(view.y, height / view.scale, box.y, box.height),
  };
}

/**
 * The node at a point of the plane, or -1.
 * @param {import("./layout.js").Box[]} boxes
 * @param {number} x
 * @param {number} y
 */
export function hit(boxes, x, y) {
  return boxes.findIndex((box) => x >= box.x && x <= box.x + box.width && y >= box.y && y <= box.y + box.height);
}

/**
 * The node to go to from `node` by an arrow key: left to what it needs, right to who needs it, the one at about the same
 * height first; up and down within its layer. -1 where there is none.
 * @param {"left" | "right" | "up" | "down"} way
 * @param {number} node
 * @param {import("./layout.js").Layout} made
 * @param {{ before: number[][], after: number[][] }} near
 */
export function stepFrom(way, node, made, near) {
  const here = made.nodes[node];
  const middle = (/** @type {import("./layout.js").Box} */ box) => box.y + box.height / 2;
  const closest = (/** @type {number[]} */ among, /** @type {(box: import("./layout.js").Box) => number} */ far) =>
    among.reduce((best, each) => (best < 0 || far(made.nodes[each]) < far(made.nodes[best]) ? each : best), -1);
  if (way === "left" || way === "right") {
    return closest(way === "left" ? near.before[node] : near.after[node], (box) => Math.abs(middle(box) - middle(here)));
  }
  const sign = way === "down" ? 1 : -1;
  const beside = made.nodes.flatMap((box, each) =>
    each !== node && made.layers[each] === made.layers[node] && sign * (box.y - here.y) > 0 && box.x === here.x ? [each] : [],
  );
  return closest(beside, (box) => Math.abs(box.y - here.y));
}
