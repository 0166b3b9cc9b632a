// @ts-check
/**
 * Computes the position of each node of a graph. Layers run from left to right; a layer that is too high for the picture
 * is wrapped into several columns; adjacent nodes of one group get a box. A loop is a box around its body, and the phases
 * of a run's end are to the right of all else. Pure.
 */

import { scopesOf } from "./nesting.js";
import { layersOf, orderedLayers } from "./order.js";

/**
 * @typedef {{ group: string, wide: boolean, parent?: number, section?: string }} LayoutNode `wide`: a fan-out, whose tile
 *   has space for its members; `parent`: the index of the loop around it
 * @typedef {{ x: number, y: number, width: number, height: number, head?: number }} Box `head`: height of the head of a
 *   loop, below which is its body
 * @typedef {{ nodes: Box[], boxes: (Box & { group: string })[], sections: (Box & { section: string })[], width: number,
 *   height: number, layers: number[] }} Layout
 * @typedef {{ width: number, height: number, head?: number }} Size
 * @typedef {{ nodes: number[], group: string, columns: number, rows: number, width: number, height: number }} Block
 */

export const NODE = { width: 196, height: 40 };
export const WIDE = { width: 196, height: 92 };
const GAP = { node: 8, column: 20, block: 18, layer: 76, labelled: 128, inBlock: 12, section: 64 };
/** Space around the nodes of a group; the group's name is above them. */
const FRAMED = { side: 10, top: 26, bottom: 10 };
const PLAIN = { side: 0, top: 0, bottom: 0 };
/** Space around the body of a loop; its name and the strip of its iterations are above. */
export const LOOP = { side: 14, top: 66, bottom: 14, minWidth: 300 };
const SECTION = { side: 14, top: 30, bottom: 14 };
/** Wanted ratio of width to height. */
const ASPECT = 2.2;

/**
 * @param {LayoutNode[]} nodes
 * @param {import("./order.js").Edge[]} edges
 * @param {{ framed?: boolean, labelled?: number[] }} [how] `framed`: with space for the groups' boxes; `labelled`: nodes
 *   with a text at the end of an edge to them, which needs space
 * @returns {Layout}
 */
export function layout(nodes, edges, { framed = true, labelled = [] } = {}) {
  const { loops, sections } = scopesOf(nodes, edges);
  const plane = new Plane(nodes, loops, new Set(labelled));
  const main = plane.arrange(sections.get("") ?? { nodes: [], edges: [] }, framed ? FRAMED : PLAIN);
  // By name: compensations end before `finally` begins.
  const apart = [...sections].filter(([section]) => section !== "").sort(([a], [b]) => (a < b ? -1 : 1)).map(([section, scope]) => ({ section, made: plane.arrange(scope, PLAIN) }));
  const frame = framed ? SECTION : PLAIN;
  const height = Math.max(main.height, ...apart.map(({ made }) => made.height + frame.top + frame.bottom));
  plane.place(main, 0, (height - main.height) / 2);
  let width = main.width;
  for (const { section, made } of apart) {
    const box = { x: width + (width ? GAP.section : 0), width: made.width + 2 * frame.side, height: made.height + frame.top + frame.bottom };
    const y = (height - box.height) / 2;
    plane.sections.push({ ...box, y, section });
    plane.place(made, box.x + frame.side, y + frame.top);
    width = box.x + box.width;
  }
  return { nodes: plane.placed, boxes: plane.boxes, sections: plane.sections, width, height, layers: plane.layers };
}

/**
 * @typedef {{ strips: Strip[][], gaps: number[], width: number, height: number, frame: Frame }} Arranged
 * @typedef {{ blocks: Block[], width: number, height: number }} Strip
 */

/** Lays out scopes, the bodies of loops first, because a loop needs the size of its body. */
class Plane {
  boxes = /** @type {(Box & { group: string })[]} */ ([]);
  sections = /** @type {(Box & { section: string })[]} */ ([]);

  /** @param {LayoutNode[]} nodes @param {Map<number, import("./nesting.js").Scope>} loops @param {Set<number>} labelled */
  constructor(nodes, loops, labelled) {
    this.nodes = nodes;
    this.loops = loops;
    this.labelled = labelled;
    this.placed = /** @type {Box[]} */ (new Array(nodes.length));
    this.layers = new Array(nodes.length).fill(0);
    this.sizes = /** @type {Size[]} */ (nodes.map((node) => (node.wide ? WIDE : NODE)));
    this.bodies = /** @type {Map<number, Arranged>} */ (new Map());
  }

  /** @param {import("./nesting.js").Scope} scope @param {Frame} frame @returns {Arranged} */
  arrange(scope, frame) {
    for (const node of scope.nodes) {
      const body = this.loops.get(node);
      if (body) this.#enclose(node, this.arrange(body, PLAIN));
    }
    const at = new Map(scope.nodes.map((node, nth) => [node, nth]));
    const edges = scope.edges.map(([from, to]) => /** @type {import("./order.js").Edge} */ ([at.get(from), at.get(to)]));
    const layers = layersOf(scope.nodes.length, edges);
    layers.forEach((layer, nth) => (this.layers[scope.nodes[nth]] = layer));
    const groups = scope.nodes.map((node) => this.nodes[node].group);
    const rows = orderedLayers(layers, groups, edges).map((row) => row.map((nth) => scope.nodes[nth]));
    const tallest = this.#heightFor(rows, frame);
    const strips = rows.map((row) => stripsOf(this.#blocksOf(row, tallest, frame), tallest));
    const height = Math.max(0, ...strips.flat().map((strip) => strip.height));
    const gaps = rows.map((row, nth) => (nth === 0 ? 0 : row.some((node) => this.labelled.has(node)) ? GAP.labelled : GAP.layer));
    const width = strips.reduce((sum, layer, nth) => sum + gaps[nth] + layer.reduce((all, strip) => all + strip.width + GAP.column, -GAP.column), 0);
    return { strips, gaps, width, height, frame };
  }

  /** The size of a loop is that of its body with a head. @param {number} loop @param {Arranged} body */
  #enclose(loop, body) {
    this.bodies.set(loop, body);
    this.sizes[loop] = { width: Math.max(LOOP.minWidth, body.width + 2 * LOOP.side), height: body.height + LOOP.top + LOOP.bottom, head: LOOP.top };
  }

  /** @param {Arranged} arranged @param {number} left @param {number} top */
  place(arranged, left, top) {
    let x = left;
    arranged.strips.forEach((layer, nth) => {
      x += arranged.gaps[nth];
      for (const strip of layer) {
        this.#placeStrip(strip, { x, y: top + (arranged.height - strip.height) / 2 }, arranged.frame);
        x += strip.width + GAP.column;
      }
      x -= GAP.column;
    });
  }

  /** The height at which the picture's ratio is closest to ASPECT. @param {number[][]} rows @param {Frame} frame */
  #heightFor(rows, frame) {
    let best = { height: 0, deviation: Infinity };
    const heights = rows.map((row) => this.#blocksHeight(row, frame));
    const widths = rows.map((row) => Math.max(...row.map((node) => this.sizes[node].width)) + 2 * frame.side + GAP.column);
    const tallest = Math.max(1, ...heights);
    const highest = Math.max(0, ...rows.flat().map((node) => this.sizes[node].height));
    for (let height = Math.min(Math.max(360, highest), tallest); ; height = Math.min(tallest, height * 1.15)) {
      const width = heights.reduce((sum, each, nth) => sum + Math.ceil(each / height) * widths[nth] + GAP.layer, 0);
      const deviation = Math.abs(Math.log(width / height / ASPECT));
      if (deviation < best.deviation) best = { height, deviation };
      if (height >= tallest) return best.height;
    }
  }

  /** @param {number[]} row @param {Frame} frame */
  #blocksHeight(row, frame) {
    let height = 0;
    row.forEach((node, nth) => {
      const starts = nth === 0 || this.nodes[row[nth - 1]].group !== this.nodes[node].group;
      height += this.sizes[node].height + GAP.node + (starts ? frame.top + frame.bottom + GAP.block : 0);
    });
    return height;
  }

  /**
   * Blocks of adjacent nodes of one group in a layer; a block that is too high gets several columns. A loop is a block.
   * @param {number[]} row
   * @param {number} tallest
   * @param {Frame} frame
   * @returns {Block[]}
   */
  #blocksOf(row, tallest, frame) {
    /** @type {number[][]} */
    const runs = [];
    for (const node of row) {
      const last = runs.at(-1);
      const joins = last && this.nodes[last[0]].group === this.nodes[node].group && !this.bodies.has(node) && !this.bodies.has(last[0]);
      if (joins) last.push(node);
      else runs.push([node]);
    }
    return runs.map((run) => {
      const size = this.sizes[run[0]];
      const group = this.nodes[run[0]].group;
      if (this.bodies.has(run[0])) return { nodes: run, group, columns: 1, rows: 1, width: size.width, height: size.height };
      const pitch = Math.max(...run.map((node) => this.sizes[node].height)) + GAP.node;
      const maxRows = Math.max(1, Math.floor((tallest - frame.top - frame.bottom + GAP.node) / pitch));
      const columns = Math.ceil(run.length / maxRows);
      const perColumn = Math.ceil(run.length / columns);
      return {
        nodes: run,
        group,
        columns,
        rows: perColumn,
        width: columns * (NODE.width + GAP.inBlock) - GAP.inBlock + 2 * frame.side,
        height: perColumn * pitch - GAP.node + frame.top + frame.bottom,
      };
    });
  }

  /** @param {Strip} strip @param {{ x: number, y: number }} corner @param {Frame} frame */
  #placeStrip(strip, corner, frame) {
    let { y } = corner;
    for (const block of strip.blocks) {
      const x = corner.x + (strip.width - block.width) / 2;
      const body = this.bodies.get(block.nodes[0]);
      if (body) {
        this.#placeLoop(block.nodes[0], body, x, y);
        y += block.height + GAP.block;
        continue;
      }
      if (frame !== PLAIN) this.boxes.push({ group: block.group, x, y, width: block.width, height: block.height });
      const pitch = (block.height - frame.top - frame.bottom + GAP.node) / block.rows;
      block.nodes.forEach((node, nth) => {
        const size = this.sizes[node];
        this.placed[node] = {
          x: x + frame.side + Math.floor(nth / block.rows) * (NODE.width + GAP.inBlock),
          y: y + frame.top + (nth % block.rows) * pitch + (pitch - GAP.node - size.height) / 2,
          ...size,
        };
      });
      y += block.height + GAP.block;
    }
  }

  /** @param {number} loop @param {Arranged} body @param {number} x @param {number} y */
  #placeLoop(loop, body, x, y) {
    const size = this.sizes[loop];
    this.placed[loop] = { x, y, ...size };
    this.place(body, x + (size.width - body.width) / 2, y + LOOP.top);
  }
}

/** @typedef {typeof FRAMED} Frame */

/**
 * Stacks blocks into strips that are no higher than `tallest`.
 * @param {Block[]} blocks
 * @param {number} tallest
 */
function stripsOf(blocks, tallest) {
  /** @type {Strip[]} */
  const strips = [];
  for (const block of blocks) {
    const last = strips.at(-1);
    if (last && last.height + GAP.block + block.height <= tallest * 1.02) {
      last.blocks.push(block);
      last.height += GAP.block + block.height;
      last.width = Math.max(last.width, block.width);
    } else {
      strips.push({ blocks: [block], width: block.width, height: block.height });
    }
  }
  return strips;
}

/**
 * The graph of groups: one node for each group, and an edge if a task of one group depends on a task of another.
 * @param {string[]} groups the group of each node
 * @param {import("./order.js").Edge[]} edges
 */
export function grouped(groups, edges) {
  const names = [...new Set(groups)];
  const indexes = new Map(names.map((name, nth) => [name, nth]));
  /** @type {Map<string, import("./order.js").Edge>} */
  const between = new Map();
  for (const [from, to] of edges) {
    const pair = /** @type {import("./order.js").Edge} */ ([indexes.get(groups[from]), indexes.get(groups[to])]);
    if (pair[0] !== pair[1]) between.set(pair.join(), pair);
  }
  return { names, edges: [...between.values()] };
}
