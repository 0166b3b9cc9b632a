// @ts-check
/**
 * Where each node of a graph stands. Layers run from left to right; a layer that is too high for the picture is folded
 * into several columns; nodes of one group that stand together get a box. Pure.
 */

import { layersOf, orderedLayers } from "./order.js";

/**
 * @typedef {{ group: string, wide: boolean }} LayoutNode `wide`: a fan-out, whose tile has room for its members
 * @typedef {{ x: number, y: number, width: number, height: number }} Box
 * @typedef {{ nodes: Box[], boxes: (Box & { group: string })[], width: number, height: number, layers: number[] }} Layout
 * @typedef {{ nodes: number[], group: string, columns: number, rows: number, width: number, height: number }} Block
 */

export const NODE = { width: 196, height: 40 };
export const WIDE = { width: 196, height: 92 };
const GAP = { node: 8, column: 20, block: 18, layer: 76, inBlock: 12 };
/** Room around the nodes of a group: above for its name. */
const FRAMED = { side: 10, top: 26, bottom: 10 };
const PLAIN = { side: 0, top: 0, bottom: 0 };
/** How much wider than high a picture is wanted. */
const ASPECT = 2.2;

/**
 * @param {LayoutNode[]} nodes
 * @param {import("./order.js").Edge[]} edges
 * @param {{ framed?: boolean }} [how] `framed`: with room for the groups' boxes
 * @returns {Layout}
 */
export function layout(nodes, edges, { framed = true } = {}) {
  const frame = framed ? FRAMED : PLAIN;
  const layers = layersOf(nodes.length, edges);
  const rows = orderedLayers(layers, nodes.map((node) => node.group), edges);
  const tallest = heightFor(rows, nodes, frame);
  /** @type {Layout} */
  const made = { nodes: new Array(nodes.length), boxes: [], width: 0, height: 0, layers };
  const strips = rows.map((row) => stripsOf(blocksOf(row, nodes, tallest, frame), tallest));
  const height = Math.max(0, ...strips.flat().map((strip) => strip.height));
  let x = 0;
  for (const layer of strips) {
    for (const strip of layer) {
      placeStrip(made, strip, nodes, { x, y: (height - strip.height) / 2 }, frame);
      x += strip.width + GAP.column;
    }
    x += GAP.layer - GAP.column;
  }
  return { ...made, width: Math.max(0, x - GAP.layer), height };
}

/** @typedef {typeof FRAMED} Frame */

/** The height that makes the picture about as wide as wanted. @param {number[][]} rows @param {LayoutNode[]} nodes @param {Frame} frame */
function heightFor(rows, nodes, frame) {
  let best = { height: 0, off: Infinity };
  const tallest = Math.max(1, ...rows.map((row) => blocksHeight(row, nodes, frame)));
  for (let height = Math.min(360, tallest); ; height = Math.min(tallest, height * 1.15)) {
    const columns = rows.map((row) => Math.ceil(blocksHeight(row, nodes, frame) / height));
    const width = columns.reduce((sum, each) => sum + each * (NODE.width + 2 * frame.side + GAP.column) + GAP.layer, 0);
    const off = Math.abs(Math.log(width / height / ASPECT));
    if (off < best.off) best = { height, off };
    if (height >= tallest) return best.height;
  }
}

/** @param {number[]} row @param {LayoutNode[]} nodes @param {Frame} frame */
function blocksHeight(row, nodes, frame) {
  let height = 0;
  row.forEach((node, nth) => {
    const starts = nth === 0 || nodes[row[nth - 1]].group !== nodes[node].group;
    height += sizeOf(nodes[node]).height + GAP.node + (starts ? frame.top + frame.bottom + GAP.block : 0);
  });
  return height;
}

/** @param {LayoutNode} node */
const sizeOf = (node) => (node.wide ? WIDE : NODE);

/**
 * The nodes of a layer that stand together, as blocks; a block that is too high gets columns.
 * @param {number[]} row
 * @param {LayoutNode[]} nodes
 * @param {number} tallest
 * @param {Frame} frame
 * @returns {Block[]}
 */
function blocksOf(row, nodes, tallest, frame) {
  /** @type {number[][]} */
  const runs = [];
  for (const node of row) {
    const last = runs.at(-1);
    if (last && nodes[last[0]].group === nodes[node].group) last.push(node);
    else runs.push([node]);
  }
  return runs.map((run) => {
    const pitch = Math.max(...run.map((node) => sizeOf(nodes[node]).height)) + GAP.node;
    const most = Math.max(1, Math.floor((tallest - frame.top - frame.bottom + GAP.node) / pitch));
    const columns = Math.ceil(run.length / most);
    const perColumn = Math.ceil(run.length / columns);
    return {
      nodes: run,
      group: nodes[run[0]].group,
      columns,
      rows: perColumn,
      width: columns * (NODE.width + GAP.inBlock) - GAP.inBlock + 2 * frame.side,
      height: perColumn * pitch - GAP.node + frame.top + frame.bottom,
    };
  });
}

/**
 * Blocks stacked into strips that are no higher than `tallest`.
 * @param {Block[]} blocks
 * @param {number} tallest
 */
function stripsOf(blocks, tallest) {
  /** @type {{ blocks: Block[], width: number, height: number }[]} */
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
 * @param {Layout} made
 * @param {{ blocks: Block[], width: number }} strip
 * @param {LayoutNode[]} nodes
 * @param {{ x: number, y: number }} corner
 * @param {Frame} frame
 */
function placeStrip(made, strip, nodes, corner, frame) {
  let { y } = corner;
  for (const block of strip.blocks) {
    const x = corner.x + (strip.width - block.width) / 2;
    made.boxes.push({ group: block.group, x, y, width: block.width, height: block.height });
    const pitch = (block.height - frame.top - frame.bottom + GAP.node) / block.rows;
    block.nodes.forEach((node, nth) => {
      const size = sizeOf(nodes[node]);
      made.nodes[node] = {
        x: x + frame.side + Math.floor(nth / block.rows) * (NODE.width + GAP.inBlock),
        y: y + frame.top + (nth % block.rows) * pitch + (pitch - GAP.node - size.height) / 2,
        ...size,
      };
    });
    y += block.height + GAP.block;
  }
}

/**
 * The same graph with one node for each group, and an edge where a task of one needs a task of the other.
 * @param {string[]} groups the group of each node
 * @param {import("./order.js").Edge[]} edges
 */
export function grouped(groups, edges) {
  const names = [...new Set(groups)];
  const places = new Map(names.map((name, nth) => [name, nth]));
  /** @type {Map<string, import("./order.js").Edge>} */
  const between = new Map();
  for (const [from, to] of edges) {
    const pair = /** @type {import("./order.js").Edge} */ ([places.get(groups[from]), places.get(groups[to])]);
    if (pair[0] !== pair[1]) between.set(pair.join(), pair);
  }
  return { names, edges: [...between.values()] };
}
