// @ts-check
/** The graph as a component: a canvas with controls, and descriptions for screen readers. */

import { GraphCanvas } from "../graph/canvas.js";
import { edgeMarks, flowText, parentsOf, shownName } from "../lib/flow.js";
import { isFanOut, noteOf } from "../lib/run.js";
import { appearanceOf } from "../lib/status.js";
import { counted, sharedPrefix } from "../lib/format.js";
import { layoutOf } from "../graph/layouts.js";
import { useApp } from "../lib/hooks.js";
import { html, useEffect, useMemo, useRef, useState } from "../vendor/index.js";
import { Icon } from "./icons.js";

/**
 * @param {any} node
 * @param {any} heat
 * @param {number} hidden length of the prefix that all names share
 * @returns {import("../graph/draw.js").SceneNode}
 */
export function sceneNode(node, heat, hidden = 0) {
  const members = Math.max(1, node.members ?? 1);
  return {
    name: hidden ? `…${node.task.slice(hidden)}` : shownName(node),
    note: noteOf(node),
    status: node.held > 0 && appearanceOf(node.status).open ? "held" : node.status,
    wide: isFanOut(node),
    share: { completed: (node.completed ?? 0) / members, failed: (node.failed ?? 0) / members, running: (node.running ?? 0) / members },
    heat: heat ?? null,
    kind: node.kind ?? "task",
    bound: node.bound ?? "",
    loop: node.loop ?? null,
  };
}

/** Key of the graph's structure. Only a change of it needs a new layout; a change of status does not. @param {any[]} nodes @param {any[]} edges */
const shapeOf = (nodes, edges) => `${nodes.length}/${edges.length}/${nodes.map((node) => (isFanOut(node) ? "w" : "n")).join("")}/${nodes[0]?.id ?? ""}`;

/**
 * @param {{
 *   nodes: any[], edges: [number, number][], optional?: number[], heats?: Map<string, any>, framed?: boolean, label: string,
 *   matching?: Set<number> | null, onOpen: (node: number) => void, onSeen?: (nodes: number[]) => void, selected?: number,
 * }} properties
 */
export function Graph({ nodes, edges, optional, heats, framed = true, label, matching = null, onOpen, onSeen, selected = -1 }) {
  const { theme, notify } = useApp();
  const canvas = useRef(/** @type {any} */ (null));
  const graph = useRef(/** @type {GraphCanvas | null} */ (null));
  const latest = useRef({ nodes, onOpen, onSeen });
  latest.current = { nodes, onOpen, onSeen };
  const [layout, setLayout] = useState(/** @type {any} */ (null));
  const [announcement, setAnnouncement] = useState("");
  const hidden = useMemo(() => sharedPrefix(nodes.map((node) => node.task)), [nodes.length]);
  const hiddenOfGroups = useMemo(() => sharedPrefix([...new Set(nodes.map((node) => node.group))]), [nodes.length]);
  const shape = useMemo(() => shapeOf(nodes, edges), [nodes, edges]);
  const marks = useMemo(() => edgeMarks(nodes, edges, optional), [nodes, edges]);

  useEffect(() => {
    const canvasGraph = new GraphCanvas(canvas.current, {
      select: (node) => setAnnouncement(node < 0 ? "" : describe(latest.current.nodes[node])),
      open: (node) => latest.current.onOpen(node),
      painted: () => (canvas.current.dataset.painted ??= String(Math.round(performance.now()))),
      viewChanged: () => latest.current.onSeen?.(canvasGraph.visible()),
    });
    graph.current = canvasGraph;
    canvas.current.graph = canvasGraph;
    const unwatch = theme.watch(() => canvasGraph.recolour());
    return () => (unwatch(), canvasGraph.stop());
  }, []);

  useEffect(() => {
    const stop = new AbortController();
    const parents = parentsOf(nodes);
    const wanted = nodes.map((node, nth) => ({ group: node.group, wide: isFanOut(node), parent: parents[nth], section: node.phase ?? "" }));
    const labelled = [...marks].flatMap(([nth, mark]) => (mark.label ? [edges[nth][1]] : []));
    layoutOf(wanted, edges, { framed, labelled }, stop.signal).then(setLayout, (error) => notify(String(error.message), "bad"));
    return () => stop.abort();
  }, [shape]);

  const shown = useRef(/** @type {{ nodes: any[], heats: any }} */ ({ nodes: [], heats: null }));
  useEffect(() => {
    if (!layout || layout.nodes.length !== nodes.length) return;
    const before = shown.current;
    shown.current = { nodes, heats };
    graph.current?.show({ layout, framed, edges, marks, hidden: hiddenOfGroups, nodes: nodes.map((node) => sceneNode(node, heats?.get(node.id), hidden)) });
    graph.current?.changed(nodes.flatMap((node, nth) => (before.nodes[nth] !== node || before.heats?.get(node.id) !== heats?.get(node.id) ? [nth] : [])));
  }, [layout, nodes, heats, framed]);
  useEffect(() => graph.current?.emphasise(matching), [matching]);
  useEffect(() => graph.current?.select(selected), [selected, layout]);

  const onKey = (/** @type {KeyboardEvent} */ event) => {
    if (graph.current?.key(event)) event.preventDefault();
  };
  const help = `${label}. Arrow keys move along the dependencies, Enter opens a task, plus and minus zoom, 0 shows all. The list has the same tasks as a table.`;
  return html`<div class="graph">
    <div class="graph-stage" tabindex="0" role="application" aria-label=${help} onKeyDown=${onKey}><canvas ref=${canvas} aria-hidden="true"></canvas></div>
    <div class="graph-controls" role="group" aria-label="Zoom">
      <button type="button" class="icon-button" aria-label="Zoom in" title="Zoom in (+)" onClick=${() => graph.current?.zoom(1.3)}><${Icon} name="plus" /></button>
      <button type="button" class="icon-button" aria-label="Zoom out" title="Zoom out (−)" onClick=${() => graph.current?.zoom(1 / 1.3)}><${Icon} name="minus" /></button>
      <button type="button" class="icon-button" aria-label="Show the whole graph" title="Show the whole graph (0)" onClick=${() => graph.current?.fit()}><${Icon} name="fit" /></button>
    </div>
    <p class="unseen" aria-live="polite">${announcement}</p>
  </div>`;
}

/** @param {any} node */
function describe(node) {
  if (!node) return "";
  const members = node.expanded && node.members !== null ? `, ${counted(node.members, "member")}` : "";
  const flow = flowText(node);
  return `${node.group}, ${shownName(node)}: ${appearanceOf(node.status).label}${members}${flow ? `, ${flow}` : ""}`;
}
