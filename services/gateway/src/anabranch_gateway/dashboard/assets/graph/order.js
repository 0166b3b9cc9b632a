// @ts-check
/** Assigns nodes to layers and orders each layer. Pure; fast enough for some thousand nodes. */

/** @typedef {[number, number]} Edge from the node that produces to the node that needs */

const SWEEPS = 4;

/**
 * The layer of each node: 0 without dependencies, else one more than the highest layer of its dependencies. Edges that
 * close a cycle are ignored; only graphs of groups have some.
 * @param {number} count
 * @param {Edge[]} edges
 */
export function layersOf(count, edges) {
  const { before, after } = neighbours(count, edges);
  const unmet = before.map((each) => each.length);
  const layers = new Array(count).fill(0);
  const visited = new Array(count).fill(false);
  const ready = unmet.flatMap((left, node) => (left === 0 ? [node] : []));
  let firstUnvisited = 0;
  for (let done = 0; done < count; ) {
    const node = ready.pop() ?? nextOfCycle();
    if (visited[node]) continue;
    visited[node] = true;
    done += 1;
    for (const next of after[node]) {
      if (visited[next]) continue;
      layers[next] = Math.max(layers[next], layers[node] + 1);
      unmet[next] -= 1;
      if (unmet[next] === 0) ready.push(next);
    }
  }
  return layers;

  function nextOfCycle() {
    while (visited[firstUnvisited]) firstUnvisited += 1;
    return firstUnvisited;
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
 * The nodes of each layer, in an order that keeps a group's nodes together and edges short: the barycenter heuristic
 * sorts each layer by the mean position of the neighbours, down the layers and up again, a few times.
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
  const position = new Float64Array(layers.length);
  const updatePositions = (/** @type {number[]} */ row) => row.forEach((node, nth) => (position[node] = (nth + 0.5) / row.length));
  for (const row of rows) {
    sortTogether(row, groups, (_, nth) => nth);
    updatePositions(row);
  }
  for (let sweep = 0; sweep < SWEEPS; sweep += 1) {
    const down = sweep % 2 === 0;
    const adjacent = down ? before : after;
    for (const row of down ? rows : [...rows].reverse()) {
      sortTogether(row, groups, (node) => meanPosition(adjacent[node], position) ?? position[node]);
      updatePositions(row);
    }
  }
  return rows;
}

/** @param {number[]} nodes @param {Float64Array} position */
function meanPosition(nodes, position) {
  if (!nodes.length) return null;
  let sum = 0;
  for (const node of nodes) sum += position[node];
  return sum / nodes.length;
}

/**
 * Sorts a row in place: groups by their mean value, nodes within a group by value. Equal ones keep their order.
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
