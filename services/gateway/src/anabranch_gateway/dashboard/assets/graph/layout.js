// @ts-check
/**
 * Computes the position of each node of a graph. Layers run from left to right; a layer that is too high for the picture
 * is wrapped into several columns; adjacent nodes of one group get a box. Pure.
 */

import { layersOf, orderedLayers } from "./order.js";

/**
 * @typedef {{ group: string, wide: boolean }} LayoutNode `wide`: a fan-out, whose tile has space for its members
 * @typedef {{ x: number, y: number, width: number, height: number }} Box
 * @typedef {{ nodes: Box[], boxes: (Box & { group: string })[], width: number, height: number, layers: number[] }} Layout
 * @typedef {{ nodes: number[], group: string, columns: number, rows: number, width: number, height: number }} Block
 */

export const NODE = { width: 196, height: 40 };
export const WIDE = { width: 196, height: 92 };
const GAP = { node: 8, column: 20, block: 18, layer: 76, inBlock: 12 };
/** Space around the nodes of a group; the group's name is above them. */
const FRAMED = { side: 10, top: 26, bottom: 10 };
const PLAIN = { side: 0, top: 0, bottom: 0 };
/** Wanted ratio of width to height. */
const ASPECT = 2.2;

/**
 * @param {LayoutNode[]} nodes
 * @param {import("./order.js").Edge[]} edges
 * @param {{ framed?: boolean }} [how] `framed`: with space for the groups' boxes
 * @returns {Layout}
 */
export function layout(nodes, edges, { framed = true } = {}) {
  const frame = framed ? FRAMED : PLAIN;
  const layers = layersOf(nodes.length, edges);
  const rows = orderedLayers(layers, nodes.map((node) => node.group), edges);
  const tallest = heightFor(rows, nodes, frame);
  /** @type {Layout} */
  const result = { nodes: new Array(nodes.length), boxes: [], width: 0, height: 0, layers };
  const strips = rows.map((row) => stripsOf(blocksOf(row, nodes, tallest, frame), tallest));
  const height = Math.max(0, ...strips.flat().map((strip) => strip.height));
  let x = 0;
  for (const layer of strips) {
    for (const strip of layer) {
      placeStrip(result, strip, nodes, { x, y: (height - strip.height) / 2 }, frame);
      x += strip.width + GAP.column;
    }
    x += GAP.layer - GAP.column;
  }
  return { ...result, width: Math.max(0, x - GAP.layer), height };
}

/** @typedef {typeof FRAMED} Frame */

/** The height at which the picture's ratio is closest to ASPECT. @param {number[][]} rows @param {LayoutNode[]} nodes @param {Frame} frame */
function heightFor(rows, nodes, frame) {
  let best = { height: 0, deviation: Infinity };
  const tallest = Math.max(1, ...rows.map((row) => blocksHeight(row, nodes, frame)));
  for (let height = Math.min(360, tallest); ; height = Math.min(tallest, height * 1.15)) {
    const columns = rows.map((row) => Math.ceil(blocksHeight(row, nodes, frame) / height));
    const width = columns.reduce((sum, each) => sum + each * (NODE.width + 2 * frame.side + GAP.column) + GAP.layer, 0);
    const deviation = Math.abs(Math.log(width / height / ASPECT));
    if (deviation < best.deviation) best = { height, deviation };
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
 * Blocks of adjacent nodes of one group in a layer; a block that is too high gets several columns.
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
    const maxRows = Math.max(1, Math.floor((tallest - frame.top - frame.bottom + GAP.node) / pitch));
    const columns = Math.ceil(run.length / maxRows);
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
 * Stacks blocks into strips that are no higher than `tallest`.
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
 * @param {Layout} result
 * @param {{ blocks: Block[], width: number }} strip
 * @param {LayoutNode[]} nodes
 * @param {{ x: number, y: number }} corner
 * @param {Frame} frame
 */
function placeStrip(result, strip, nodes, corner, frame) {
  let { y } = corner;
  for (const block of strip.blocks) {
    const x = corner.x + (strip.width - block.width) / 2;
    result.boxes.push({ group: block.group, x, y, width: block.width, height: block.height });
    const pitch = (block.height - frame.top - frame.bottom + GAP.node) / block.rows;
    block.nodes.forEach((node, nth) => {
      const size = sizeOf(nodes[node]);
      result.nodes[node] = {
        x: x + frame.side + Math.floor(nth / block.rows) * (NODE.width + GAP.inBlock),
        y: y + frame.top + (nth % block.rows) * pitch + (pitch - GAP.node - size.height) / 2,
        ...size,
      };
    });
    y += block.height + GAP.block;
  }
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
