// @ts-check
/**
 * Divides a graph into scopes, of which each is laid out by itself: the body of each loop, the phases of the run's end, and
 * the rest. Pure.
 */

/**
 * @typedef {import("./order.js").Edge} Edge
 * @typedef {{ parent?: number, section?: string }} Nested `parent`: the index of the loop around the node
 * @typedef {{ nodes: number[], edges: Edge[] }} Scope edges are between `nodes`, as indexes into all nodes
 */

/**
 * The scope of each loop by its index, and the scopes of the sections by their names; `""` is that of the run itself. Each
 * edge is in the innermost scope that has both of its ends, or loops around them; between two sections there is none.
 * @param {Nested[]} nodes
 * @param {Edge[]} edges
 * @returns {{ loops: Map<number, Scope>, sections: Map<string, Scope> }}
 */
export function scopesOf(nodes, edges) {
  /** @type {Map<number, Scope>} */
  const loops = new Map();
  /** @type {Map<string, Scope>} */
  const sections = new Map();
  const depths = nodes.map((_, nth) => chainOf(nodes, nth));
  nodes.forEach((node, nth) => {
    const parent = depths[nth][1] ?? -1;
    scope(loops, sections, parent, node.section ?? "").nodes.push(nth);
  });
  const seen = new Set();
  for (const [from, to] of edges) {
    const lifted = lift(depths[from], depths[to]);
    if (!lifted || (nodes[lifted[0]].section ?? "") !== (nodes[lifted[1]].section ?? "")) continue;
    const key = lifted[0] * nodes.length + lifted[1];
    if (seen.has(key)) continue;
    seen.add(key);
    scope(loops, sections, depths[lifted[0]][1] ?? -1, nodes[lifted[0]].section ?? "").edges.push(lifted);
  }
  return { loops, sections };
}

/** @param {Map<number, Scope>} loops @param {Map<string, Scope>} sections @param {number} parent @param {string} section @returns {Scope} */
function scope(loops, sections, parent, section) {
  const known = parent >= 0 ? loops.get(parent) : sections.get(section);
  if (known) return known;
  const made = { nodes: [], edges: [] };
  if (parent >= 0) loops.set(parent, made);
  else sections.set(section, made);
  return made;
}

/** A node and the loops around it, the innermost first. @param {Nested[]} nodes @param {number} node */
function chainOf(nodes, node) {
  const chain = [node];
  for (let at = nodes[node].parent ?? -1; at >= 0 && !chain.includes(at); at = nodes[at].parent ?? -1) chain.push(at);
  return chain;
}

/** The ends of an edge in their common scope; null if one is around the other. @param {number[]} from @param {number[]} to @returns {Edge | null} */
function lift(from, to) {
  let first = from.length - 1;
  let second = to.length - 1;
  while (first > 0 && second > 0 && from[first] === to[second]) {
    first -= 1;
    second -= 1;
  }
  return from[first] === to[second] ? null : [from[first], to[second]];
}
