// @ts-check
/** Which node stands in which layer, and in which order there. Pure; quick enough for some thousand nodes. */

/** @typedef {[number, number]} Edge from the node that produces to the node that needs */

const SWEEPS = 4;

/**
 * The layer of each node: 0 where it needs nobody, else one more than the highest layer of those it needs. Edges that
 * close a cycle (there are some between groups) count for nothing.
 * @param {number} count
 * @param {Edge[]} edges
 */
export function layersOf(count, edges) {
  const { before, after } = neighbours(count, edges);
  const waits = before.map((each) => each.length);
  const layers = new Array(count).fill(0);
  const settled = new Array(count).fill(false);
  const ready = waits.flatMap((left, node) => (left === 0 ? [node] : []));
  let unsettled = 0;
  for (let done = 0; done < count; ) {
    const node = ready.pop() ?? nextOfCycle();
    if (settled[node]) continue;
    settled[node] = true;
    done += 1;
    for (const next of after[node]) {
      if (settled[next]) continue;
      layers[next] = Math.max(layers[next], layers[node] + 1);
      waits[next] -= 1;
      if (waits[next] === 0) ready.push(next);
    }
  }
  return layers;

  function nextOfCycle() {
    while (settled[unsettled]) unsettled += 1;
    return unsettled;
  }
}

/** @param {number} count @param {Edge[]} edges */
export function neighbours(count, edges) {
  /** @type {number[][]} */
  const before = Array.from({ length: count }, () => []);
  /** @type {number[][]} */
  const after = Array.from({ length: count }, () => []);
  for (const [from, to] of edges) {
    after[from].push(to);
    before[to].push(from);
  }
  return { before, after };
}

/**
 * The nodes of each layer, in an order that keeps a group's nodes together and edges short: by the mean place of the
 * neighbours, first down the layers, then up, a few times.
 * @param {number[]} layers
 * @param {string[]} groups the group of each node
 * @param {Edge[]} edges
 * @returns {number[][]}
 */
export function orderedLayers(layers, groups, edges) {
  const { before, after } = neighbours(layers.length, edges);
  /** @type {number[][]} */
  const rows = Array.from({ length: Math.max(-1, ...layers) + 1 }, () => []);
  layers.forEach((layer, node) => rows[layer].push(node));
  const place = new Float64Array(layers.length);
  const settle = (/** @type {number[]} */ row) => row.forEach((node, nth) => (place[node] = (nth + 0.5) / row.length));
  for (const row of rows) {
    sortTogether(row, groups, (_, nth) => nth);
    settle(row);
  }
  for (let sweep = 0; sweep < SWEEPS; sweep += 1) {
    const down = sweep % 2 === 0;
    const near = down ? before : after;
    for (const row of down ? rows : [...rows].reverse()) {
      sortTogether(row, groups, (node) => meanPlace(near[node], place) ?? place[node]);
      settle(row);
    }
  }
  return rows;
}

/** @param {number[]} nodes @param {Float64Array} place */
function meanPlace(nodes, place) {
  if (!nodes.length) return null;
  let sum = 0;
  for (const node of nodes) sum += place[node];
  return sum / nodes.length;
}

/**
 * Sorts a row in place by `value`, groups by the mean of theirs; equal ones keep their order.
 * @param {number[]} row
 * @param {string[]} groups
 * @param {(node: number, nth: number) => number} value
 */
function sortTogether(row, groups, value) {
  const values = new Map(row.map((node, nth) => [node, value(node, nth)]));
  /** @type {Map<string, { sum: number, count: number }>} */
  const sums = new Map();
  for (const [node, each] of values) {
    const sum = sums.get(groups[node]) ?? { sum: 0, count: 0 };
    sums.set(groups[node], { sum: sum.sum + each, count: sum.count + 1 });
  }
  const ranks = new Map([...sums].map(([group, { sum, count }], nth) => [group, [sum / count, nth]]));
  const rank = (/** @type {number} */ node) => /** @type {number[]} */ (ranks.get(groups[node]));
  const valueOf = (/** @type {number} */ node) => /** @type {number} */ (values.get(node));
  row.sort((a, b) => rank(a)[0] - rank(b)[0] || rank(a)[1] - rank(b)[1] || valueOf(a) - valueOf(b));
}
