// @ts-check
/** A graph on a canvas that users pan, zoom and navigate by keys. It paints only when something has changed. */

import { drawPart, rounded, traceEdge } from "./draw.js";
import { drawPulse } from "./draw_loop.js";
import { gestures } from "./gestures.js";
import { neighbours } from "./order.js";
import { readPalette } from "./palette.js";
import { Tiles } from "./tiles.js";
import { centred, fitted, clamped, nodeAt, panned, revealed, neighbourTowards, zoomed } from "./viewport.js";

const ZOOM_SETTLE_MS = 140;
/** Period of the pulse of a running iteration, and milliseconds between two of its pictures. */
const PULSE = { period: 1400, every: 90 };
const ARROWS = /** @type {Record<string, "left" | "right" | "up" | "down">} */ ({
  ArrowLeft: "left", ArrowRight: "right", ArrowUp: "up", ArrowDown: "down",
});

export class GraphCanvas {
  #view = { x: 0, y: 0, scale: 1 };
  #size = { width: 1, height: 1 };
  #scene = /** @type {import("./draw.js").Scene | null} */ (null);
  #neighbours = /** @type {{ before: number[][], after: number[][] }} */ ({ before: [], after: [] });
  /** The same of the edges that are drawn: not of those between a loop and its body. */
  #drawn = this.#neighbours;
  #hovered = -1;
  #selected = -1;
  #emphasised = /** @type {Set<number> | null} */ (null);
  #moved = false;
  #isPaintScheduled = false;
  #zoomedAt = -Infinity;
  #palette = readPalette();
  #pulses = 0;

  /**
   * @param {HTMLCanvasElement} canvas
   * @param {{ select: (node: number) => void, open: (node: number) => void, painted?: () => void, viewChanged?: () => void }} callbacks
   */
  constructor(canvas, callbacks) {
    this.canvas = canvas;
    this.callbacks = callbacks;
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
      hover: (left, top) => this.#hover(this.#nodeUnder(left, top)),
      leave: () => this.#hover(-1),
    });
    this.resizing = new ResizeObserver(() => this.#resize());
    this.resizing.observe(canvas);
  }

  stop() {
    clearInterval(this.#pulses);
    this.resizing.disconnect();
    this.stopGestures();
    this.#scene = null;
  }

  /** @param {import("./draw.js").Scene} scene a new layout is fitted into the canvas, unless the user has moved the view */
  show(scene) {
    const other = this.#scene?.layout !== scene.layout;
    const marked = looksOf(this.#scene) !== looksOf(scene);
    this.#scene = scene;
    this.#pulse();
    if (!other && marked) {
      this.tiles.clear();
      this.#schedulePaint();
    }
    if (!other) return;
    this.#neighbours = neighbours(scene.nodes.length, scene.edges);
    this.#drawn = scene.marks.size ? neighbours(scene.nodes.length, scene.edges.filter((_, nth) => scene.marks.get(nth)?.look !== "inside")) : this.#neighbours;
    this.tiles.clear();
    if (!this.#moved) this.fit();
    this.#schedulePaint();
  }

  /** Repaints nodes whose content has changed. @param {number[]} nodes */
  changed(nodes) {
    if (!this.#scene || !nodes.length) return;
    const boxes = this.#scene.layout.nodes;
    this.tiles.invalidate(nodes.map((node) => boxes[node]));
    this.#schedulePaint();
  }

  /** Repaints while an iteration runs, unless the user wants no motion. */
  #pulse() {
    const runs = this.#scene?.nodes.some((node) => node.status === "running" && node.loop && node.loop.running !== null);
    const wanted = Boolean(runs) && !matchMedia("(prefers-reduced-motion: reduce)").matches;
    if (wanted === this.#pulses > 0) return;
    clearInterval(this.#pulses);
    this.#pulses = wanted ? window.setInterval(() => this.#schedulePaint(), PULSE.every) : 0;
  }

  recolour() {
    this.#palette = readPalette();
    this.tiles.clear();
    this.#schedulePaint();
  }

  fit() {
    if (!this.#scene) return;
    const { width, height } = this.#scene.layout;
    this.#moved = false;
    this.#view = fitted({ x: 0, y: 0, width, height }, this.#size.width, this.#size.height);
    this.#schedulePaint();
  }

  /** @param {number} factor @param {number} [left] @param {number} [top] */
  zoom(factor, left = this.#size.width / 2, top = this.#size.height / 2) {
    this.#zoomedAt = performance.now();
    this.move(zoomed(this.#view, left, top, factor));
    // While zooming only scaled tiles are shown; this paint draws crisp ones once the scale has settled.
    setTimeout(() => this.#schedulePaint(), ZOOM_SETTLE_MS + 10);
  }

  /** @param {import("./viewport.js").Viewport} view */
  move(view) {
    if (!this.#scene) return;
    this.#moved = true;
    this.#view = clamped(view, this.#scene.layout, this.#size.width, this.#size.height);
    this.#schedulePaint();
  }

  /** Moves the picture by pixels; benchmarks call it too. @param {number} dx @param {number} dy */
  pan(dx, dy) {
    this.move(panned(this.#view, dx, dy));
  }

  get view() {
    return this.#view;
  }

  /** True while a running iteration pulses; tests look at it. */
  get pulses() {
    return this.#pulses > 0;
  }

  /** The box of a node on the canvas, in CSS pixels; tests call it. @param {number} node */
  boxOf(node) {
    const box = /** @type {import("./draw.js").Scene} */ (this.#scene).layout.nodes[node];
    const { x, y, scale } = this.#view;
    return { left: (box.x - x) * scale, top: (box.y - y) * scale, width: box.width * scale, height: box.height * scale };
  }

  /** The nodes that are at least partly visible. */
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
      const target = this.#view.scale < 0.4 ? centred(box, width, height, 0.8) : revealed(this.#view, box, width, height);
      this.move(target);
    }
    this.#schedulePaint();
  }

  /** Fades all nodes but these; null fades none. @param {Set<number> | null} nodes */
  emphasise(nodes) {
    this.#emphasised = nodes;
    this.#schedulePaint();
  }

  /** Handles a key; returns false if the graph does not use it. @param {KeyboardEvent} event */
  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || !this.#scene) return false;
    const direction = ARROWS[event.key];
    if (direction && event.shiftKey) {
      const step = { left: [80, 0], right: [-80, 0], up: [0, 80], down: [0, -80] }[direction];
      this.pan(step[0], step[1]);
    } else if (direction) this.#moveSelection(direction);
    else if (event.key === "+" || event.key === "=") this.zoom(1.25);
    else if (event.key === "-") this.zoom(0.8);
    else if (event.key === "0" || event.key === "f") this.fit();
    else if (event.key === "Enter" && this.#selected >= 0) this.callbacks.open(this.#selected);
    else return false;
    return true;
  }

  /** @param {"left" | "right" | "up" | "down"} direction */
  #moveSelection(direction) {
    if (!this.#scene?.nodes.length) return;
    const next = this.#selected < 0 ? 0 : neighbourTowards(direction, this.#selected, this.#scene.layout, this.#neighbours);
    if (next < 0) return;
    this.select(next, { reveal: true });
    this.callbacks.select(next);
  }

  /** @param {number} left @param {number} top */
  #nodeUnder(left, top) {
    const { x, y, scale } = this.#view;
    return this.#scene ? nodeAt(this.#scene.layout.nodes, x + left / scale, y + top / scale) : -1;
  }

  /** @param {number} left @param {number} top @param {boolean} twice */
  #tap(left, top, twice) {
    const node = this.#nodeUnder(left, top);
    this.select(node);
    this.callbacks.select(node);
    if (node >= 0) this.callbacks.open(node);
    else if (twice) this.zoom(1.6, left, top);
  }

  /** @param {number} node */
  #hover(node) {
    if (node === this.#hovered) return;
    this.#hovered = node;
    this.canvas.classList.toggle("over-node", node >= 0);
    this.#schedulePaint();
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
    // Setting the size empties the canvas. Painted before the next frame, so that it is never shown blank.
    this.#paint();
  }

  get #density() {
    return Math.min(2, window.devicePixelRatio || 1);
  }

  #schedulePaint() {
    if (this.#isPaintScheduled) return;
    this.#isPaintScheduled = true;
    requestAnimationFrame(() => {
      this.#isPaintScheduled = false;
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
    const zooming = performance.now() - this.#zoomedAt < ZOOM_SETTLE_MS;
    const { width, height } = this.#size;
    const whole = this.tiles.paint(context, this.#view, width, height, density, zooming, () => performance.now());
    this.#overlay();
    if (!whole && !zooming) this.#schedulePaint();
    if (whole) this.callbacks.painted?.();
    this.callbacks.viewChanged?.();
  }

  /** Draws what changes with pointer and selection over the tiles, which therefore need not be redrawn. */
  #overlay() {
    const scene = /** @type {import("./draw.js").Scene} */ (this.#scene);
    const { x, y, scale } = this.#view;
    this.context.save();
    this.context.scale(scale, scale);
    this.context.translate(-x, -y);
    if (this.#pulses && !this.#emphasised) {
      const phase = (performance.now() % PULSE.period) / PULSE.period;
      for (const node of this.visible()) {
        const box = scene.layout.nodes[node];
        if (box.head) drawPulse(this.context, scene.nodes[node], box, phase, this.#palette);
      }
    }
    if (this.#emphasised) this.#fadeOthers(scene, this.#emphasised);
    for (const node of new Set([this.#hovered, this.#selected])) {
      if (node >= 0 && scene.layout.nodes[node]) this.#highlight(scene, node, node === this.#selected ? 2.5 : 1.5);
    }
    this.context.restore();
  }

  /** Clips the next drawing so that it passes behind every visible node. @param {import("./draw.js").Scene} scene */
  #behindNodes(scene) {
    const { x, y, scale } = this.#view;
    this.context.beginPath();
    this.context.rect(x, y, this.#size.width / scale, this.#size.height / scale);
    for (const nth of this.visible()) {
      const box = scene.layout.nodes[nth];
      if (!box.head) this.context.rect(box.x, box.y, box.width, box.height);
    }
    // Even-odd: the rectangle of the view is inside, each node in it is outside.
    this.context.clip("evenodd");
  }

  /** @param {import("./draw.js").Scene} scene @param {Set<number>} emphasised */
  #fadeOthers(scene, emphasised) {
    this.context.fillStyle = this.#palette.canvas;
    this.context.globalAlpha = 0.78;
    for (const node of this.visible()) {
      if (emphasised.has(node)) continue;
      const box = scene.layout.nodes[node];
      // Of a loop only the head: its body may be among the others.
      rounded(this.context, box.head ? { ...box, height: box.head } : box, 7);
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
    for (const before of this.#drawn.before[node]) traceEdge(context, scene.layout.nodes[before], scene.layout.nodes[node], null);
    for (const after of this.#drawn.after[node]) traceEdge(context, scene.layout.nodes[node], scene.layout.nodes[after], null);
    context.strokeStyle = this.#palette.accent;
    context.lineWidth = Math.max(1.6, 1.2 / this.#view.scale);
    context.stroke();
    context.restore();
    context.strokeStyle = this.#palette.accent;
    const adjacent = [...this.#drawn.before[node], ...this.#drawn.after[node]];
    context.lineWidth = Math.max(1, 1 / this.#view.scale);
    for (const each of adjacent) {
      rounded(context, scene.layout.nodes[each], 7);
      context.stroke();
    }
    context.lineWidth = Math.max(width, width / this.#view.scale);
    rounded(context, scene.layout.nodes[node], 7);
    context.stroke();
  }
}

/** Key of how the edges of a scene look. @param {import("./draw.js").Scene | null} scene */
const looksOf = (scene) => (scene ? [...scene.marks].map(([nth, { look }]) => `${nth}${look}`).join() : "");
