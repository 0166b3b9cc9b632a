// @ts-check
/** A graph on a canvas, to pan, zoom and walk through. It draws when something has changed, and only then. */

import { drawPart, rounded, traceEdge } from "./draw.js";
import { gestures } from "./gestures.js";
import { neighbours } from "./order.js";
import { readPalette } from "./palette.js";
import { Tiles } from "./tiles.js";
import { centred, fitted, held, hit, panned, showing, stepFrom, zoomed } from "./viewport.js";

const ZOOM_SETTLES = 140;
const ARROWS = /** @type {Record<string, "left" | "right" | "up" | "down">} */ ({
  ArrowLeft: "left", ArrowRight: "right", ArrowUp: "up", ArrowDown: "down",
});

export class GraphCanvas {
  #view = { x: 0, y: 0, scale: 1 };
  #size = { width: 1, height: 1 };
  #scene = /** @type {import("./draw.js").Scene | null} */ (null);
  #near = /** @type {{ before: number[][], after: number[][] }} */ ({ before: [], after: [] });
  #hovered = -1;
  #selected = -1;
  #marked = /** @type {Set<number> | null} */ (null);
  #moved = false;
  #waiting = false;
  #zoomedAt = -Infinity;
  #palette = readPalette();

  /**
   * @param {HTMLCanvasElement} canvas
   * @param {{ select: (node: number) => void, open: (node: number) => void, painted?: () => void, seen?: () => void }} told
   */
  constructor(canvas, told) {
    this.canvas = canvas;
    this.told = told;
    this.context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d", { alpha: false }));
    this.tiles = new Tiles((context, part, scale) => {
      context.fillStyle = this.#palette.canvas;
      context.fillRect(0, 0, part.width * scale + 1, part.height * scale + 1);
      if (this.#scene) drawPart(context, this.#scene, part, scale, this.#palette);
    });
    this.stopGestures = gestures(canvas, {
      pan: (dx, dy) => this.move(panned(this.#view, dx, dy)),
      zoom: (left, top, factor) => this.zoom(factor, left, top),
      tap: (left, top, twice) => this.#tap(left, top, twice),
      hover: (left, top) => this.#hover(this.#at(left, top)),
      leave: () => this.#hover(-1),
    });
    this.resizing = new ResizeObserver(() => this.#resize());
    this.resizing.observe(canvas);
  }

  stop() {
    this.resizing.disconnect();
    this.stopGestures();
    this.#scene = null;
  }

  /** @param {import("./draw.js").Scene} scene another graph: seen as a whole, unless the user has moved this one */
  show(scene) {
    const other = this.#scene?.layout !== scene.layout;
    this.#scene = scene;
    if (!other) return;
    this.#near = neighbours(scene.nodes.length, scene.edges);
    this.tiles.clear();
    if (!this.#moved) this.fit();
    this.#soon();
  }

  /** What some nodes say has changed. @param {number[]} nodes */
  changed(nodes) {
    if (!this.#scene || !nodes.length) return;
    const boxes = this.#scene.layout.nodes;
    this.tiles.touch(nodes.map((node) => boxes[node]));
    this.#soon();
  }

  recolour() {
    this.#palette = readPalette();
    this.tiles.clear();
    this.#soon();
  }

  fit() {
    if (!this.#scene) return;
    const { width, height } = this.#scene.layout;
    this.#moved = false;
    this.#view = fitted({ x: 0, y: 0, width, height }, this.#size.width, this.#size.height);
    this.#soon();
  }

  /** @param {number} factor @param {number} [left] @param {number} [top] */
  zoom(factor, left = this.#size.width / 2, top = this.#size.height / 2) {
    this.#zoomedAt = performance.now();
    this.move(zoomed(this.#view, left, top, factor));
    setTimeout(() => this.#soon(), ZOOM_SETTLES + 10);
  }

  /** @param {import("./viewport.js").Viewport} view */
  move(view) {
    if (!this.#scene) return;
    this.#moved = true;
    this.#view = held(view, this.#scene.layout, this.#size.width, this.#size.height);
    this.#soon();
  }

  /** For measurements: moves the picture by pixels. @param {number} dx @param {number} dy */
  pan(dx, dy) {
    this.move(panned(this.#view, dx, dy));
  }

  get view() {
    return this.#view;
  }

  /** Where a node is on the canvas, in CSS pixels. @param {number} node */
  placeOf(node) {
    const box = /** @type {import("./draw.js").Scene} */ (this.#scene).layout.nodes[node];
    const { x, y, scale } = this.#view;
    return { left: (box.x - x) * scale, top: (box.y - y) * scale, width: box.width * scale, height: box.height * scale };
  }

  /** Nodes of which something is seen. */
  visible() {
    if (!this.#scene) return [];
    const { x, y, scale } = this.#view;
    const right = x + this.#size.width / scale;
    const bottom = y + this.#size.height / scale;
    return this.#scene.layout.nodes.flatMap((box, nth) =>
      box.x < right && box.x + box.width > x && box.y < bottom && box.y + box.height > y ? [nth] : [],
    );
  }

  /** @param {number} node -1 for none @param {{ reveal?: boolean }} [how] */
  select(node, { reveal = false } = {}) {
    this.#selected = node;
    if (reveal && node >= 0 && this.#scene) {
      const box = this.#scene.layout.nodes[node];
      const { width, height } = this.#size;
      const near = this.#view.scale < 0.4 ? centred(box, width, height, 0.8) : showing(this.#view, box, width, height);
      this.move(near);
    }
    this.#soon();
  }

  /** Draws all but these paler; null for no difference. @param {Set<number> | null} nodes */
  mark(nodes) {
    this.#marked = nodes;
    this.#soon();
  }

  /** Handles a key; false where it means nothing here. @param {KeyboardEvent} event */
  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || !this.#scene) return false;
    const way = ARROWS[event.key];
    if (way && event.shiftKey) {
      const step = { left: [80, 0], right: [-80, 0], up: [0, 80], down: [0, -80] }[way];
      this.pan(step[0], step[1]);
    } else if (way) this.#walk(way);
    else if (event.key === "+" || event.key === "=") this.zoom(1.25);
    else if (event.key === "-") this.zoom(0.8);
    else if (event.key === "0" || event.key === "f") this.fit();
    else if (event.key === "Enter" && this.#selected >= 0) this.told.open(this.#selected);
    else return false;
    return true;
  }

  /** @param {"left" | "right" | "up" | "down"} way */
  #walk(way) {
    if (!this.#scene?.nodes.length) return;
    const next = this.#selected < 0 ? 0 : stepFrom(way, this.#selected, this.#scene.layout, this.#near);
    if (next < 0) return;
    this.select(next, { reveal: true });
    this.told.select(next);
  }

  /** @param {number} left @param {number} top */
  #at(left, top) {
    const { x, y, scale } = this.#view;
    return this.#scene ? hit(this.#scene.layout.nodes, x + left / scale, y + top / scale) : -1;
  }

  /** @param {number} left @param {number} top @param {boolean} twice */
  #tap(left, top, twice) {
    const node = this.#at(left, top);
    this.select(node);
    this.told.select(node);
    if (node >= 0) this.told.open(node);
    else if (twice) this.zoom(1.6, left, top);
  }

  /** @param {number} node */
  #hover(node) {
    if (node === this.#hovered) return;
    this.#hovered = node;
    this.canvas.classList.toggle("over-node", node >= 0);
    this.#soon();
  }

  #resize() {
    const width = this.canvas.clientWidth;
    const height = this.canvas.clientHeight;
    if (!width || !height) return;
    this.#size = { width, height };
    const density = this.#density;
    this.canvas.width = Math.round(width * density);
    this.canvas.height = Math.round(height * density);
    if (!this.#moved) this.fit();
    // Setting a size has emptied the canvas: painted now, nobody sees it blank.
    this.#paint();
  }

  get #density() {
    return Math.min(2, window.devicePixelRatio || 1);
  }

  #soon() {
    if (this.#waiting) return;
    this.#waiting = true;
    requestAnimationFrame(() => {
      this.#waiting = false;
      this.#paint();
    });
  }

  #paint() {
    const context = this.context;
    const density = this.#density;
    context.setTransform(density, 0, 0, density, 0, 0);
    context.fillStyle = this.#palette.canvas;
    context.fillRect(0, 0, this.#size.width, this.#size.height);
    if (!this.#scene) return;
    const zooming = performance.now() - this.#zoomedAt < ZOOM_SETTLES;
    const { width, height } = this.#size;
    const whole = this.tiles.paint(context, this.#view, width, height, density, zooming, () => performance.now());
    this.#overlay();
    if (!whole && !zooming) this.#soon();
    if (whole) this.told.painted?.();
    this.told.seen?.();
  }

  /** What changes with the pointer, drawn over the pieces. */
  #overlay() {
    const scene = /** @type {import("./draw.js").Scene} */ (this.#scene);
    const { x, y, scale } = this.#view;
    this.context.save();
    this.context.scale(scale, scale);
    this.context.translate(-x, -y);
    if (this.#marked) this.#veil(scene, this.#marked);
    for (const node of new Set([this.#hovered, this.#selected])) {
      if (node >= 0 && scene.layout.nodes[node]) this.#highlight(scene, node, node === this.#selected ? 2.5 : 1.5);
    }
    this.context.restore();
  }

  /** Lets what is drawn next pass behind every node that is seen. @param {import("./draw.js").Scene} scene */
  #behindNodes(scene) {
    const { x, y, scale } = this.#view;
    this.context.beginPath();
    this.context.rect(x, y, this.#size.width / scale, this.#size.height / scale);
    for (const nth of this.visible()) {
      const box = scene.layout.nodes[nth];
      this.context.rect(box.x, box.y, box.width, box.height);
    }
    this.context.clip("evenodd");
  }

  /** @param {import("./draw.js").Scene} scene @param {Set<number>} kept */
  #veil(scene, kept) {
    this.context.fillStyle = this.#palette.canvas;
    this.context.globalAlpha = 0.78;
    for (const node of this.visible()) {
      if (kept.has(node)) continue;
      rounded(this.context, scene.layout.nodes[node], 7);
      this.context.fill();
    }
    this.context.globalAlpha = 1;
  }

  /** @param {import("./draw.js").Scene} scene @param {number} node @param {number} width */
  #highlight(scene, node, width) {
    const { context } = this;
    context.save();
    this.#behindNodes(scene);
    context.beginPath();
    for (const before of this.#near.before[node]) traceEdge(context, scene.layout.nodes[before], scene.layout.nodes[node], null);
    for (const after of this.#near.after[node]) traceEdge(context, scene.layout.nodes[node], scene.layout.nodes[after], null);
    context.strokeStyle = this.#palette.accent;
    context.lineWidth = Math.max(1.6, 1.2 / this.#view.scale);
    context.stroke();
    context.restore();
    context.strokeStyle = this.#palette.accent;
    const near = [...this.#near.before[node], ...this.#near.after[node]];
    context.lineWidth = Math.max(1, 1 / this.#view.scale);
    for (const each of near) {
      rounded(context, scene.layout.nodes[each], 7);
      context.stroke();
    }
    context.lineWidth = Math.max(width, width / this.#view.scale);
    rounded(context, scene.layout.nodes[node], 7);
    context.stroke();
  }
}
