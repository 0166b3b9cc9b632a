// @ts-check
/** The run as a graph of its tasks or of its groups, live, or as a list. */

import { pathOf } from "../../lib/api.js";
import { counted, integer } from "../../lib/format.js";
import { useApp, useEvery } from "../../lib/hooks.js";
import { format, go } from "../../lib/router.js";
import { flowText, shownName, statusOfTask } from "../../lib/flow.js";
import { withStatuses } from "../../lib/run.js";
import { appearanceOf } from "../../lib/status.js";
import { grouped } from "../../graph/layout.js";
import { Graph } from "../../ui/graph.js";
import { Icon } from "../../ui/icons.js";
import { Choice, Empty, Failure, Loading, Progress, Status, Took } from "../../ui/components.js";
import { html, useEffect, useMemo, useRef, useState } from "../../vendor/index.js";
import { TaskDrawer } from "./task.js";

const HEAT_CELLS = 160;
/** Maximum heat maps that are loaded at once, for visible tiles. */
const MAX_HEATS = 8;
const MAX_LISTED = 200;

/** @param {{ id: string, view: any, graph: any, open: boolean, query: Record<string, string> }} properties `graph`: the result of `useLoaded` */
export function GraphTab({ id, view, graph: { value: graph, error, reload }, open, query }) {
  const [find, setFind] = useState("");
  const shape = query.as ?? "tasks";
  const live = useRef(/** @type {any[]} */ ([]));
  const nodes = useMemo(() => {
    if (!graph) return [];
    const base = live.current.length === graph.nodes.length && live.current[0]?.id === graph.nodes[0]?.id ? live.current : graph.nodes.map((/** @type {any} */ node) => ({ ...node, status: statusOfTask(node) }));
    return (live.current = withStatuses(base, view).nodes);
  }, [graph, view]);
  const { heats, onSeen } = useHeats(id, nodes, open);
  const matching = useMemo(() => matches(nodes, find, query.status), [nodes, find, query.status]);
  const set = (/** @type {Record<string, string>} */ change) => go(format(["runs", id, "graph"], { ...query, ...change }), { replace: true });

  if (error && !graph) return html`<${Failure} error=${error} onRetry=${reload} />`;
  if (!graph) return html`<${Loading} rows=${8} />`;
  if (!nodes.length) return html`<${Empty} title="No tasks yet"><p>The tasks appear here when the run is admitted.</p><//>`;
  const opened = nodes.findIndex((node) => node.id === query.open);
  return html`<div class="graph-tab">
    <div class="toolbar">
      <${Choice} label="Show as" value=${shape} onChange=${(/** @type {string} */ as) => set({ as: as === "tasks" ? "" : as })}
        options=${[{ value: "tasks", label: "Tasks" }, { value: "groups", label: "Groups" }, { value: "list", label: "List" }]} />
      <div class="search"><${Icon} name="search" /><input type="search" data-search aria-label="Find tasks" placeholder="Find a task, group or agent" value=${find} onInput=${(/** @type {any} */ event) => setFind(event.target.value)} /></div>
      <${Legend} nodes=${nodes} chosen=${query.status ?? ""} onChoose=${(/** @type {string} */ status) => set({ status })} />
      ${matching && html`<span class="muted" role="status">${counted(matching.size, "match", "matches")}</span>`}
    </div>
    ${shape === "list" && html`<${TaskList} nodes=${nodes} matching=${matching} onOpen=${(/** @type {number} */ nth) => set({ open: nodes[nth].id })} />`}
    ${shape === "tasks" && html`<${Graph} nodes=${nodes} edges=${graph.edges} optional=${graph.optional} heats=${heats} matching=${matching} onSeen=${onSeen} selected=${opened}
      label=${`Graph of ${counted(nodes.length, "task")} and ${counted(graph.edges.length, "dependency", "dependencies")}`}
      onOpen=${(/** @type {number} */ nth) => set({ open: nodes[nth].id })} />`}
    ${shape === "groups" && html`<${GroupGraph} nodes=${nodes} edges=${graph.edges} onOpen=${(/** @type {string} */ name) => (setFind(name), set({ as: "" }))} />`}
    ${opened >= 0 && html`<${TaskDrawer} id=${id} view=${view} node=${nodes[opened]} nodes=${nodes} edges=${graph.edges} nth=${opened} onClose=${() => set({ open: "" })} onOpen=${(/** @type {number} */ nth) => set({ open: nodes[nth].id })} />`}
  </div>`;
}

/** @param {any[]} nodes @param {string} find @param {string | undefined} status */
function matches(nodes, find, status) {
  const wanted = find.trim().toLowerCase();
  if (!wanted && !status) return null;
  const contains = (/** @type {any} */ node) => `${node.id} ${node.agent ?? ""} ${node.kind ?? ""} ${(node.result_keys ?? []).join(" ")}`.toLowerCase().includes(wanted);
  return new Set(nodes.flatMap((node, nth) => ((!wanted || contains(node)) && (!status || node.status === status) ? [nth] : [])));
}

/** The statuses that occur with their counts; selecting one fades all other tasks. @param {{ nodes: any[], chosen: string, onChoose: (status: string) => void }} properties */
function Legend({ nodes, chosen, onChoose }) {
  /** @type {Map<string, number>} */
  const counts = new Map();
  for (const node of nodes) counts.set(node.status, (counts.get(node.status) ?? 0) + 1);
  return html`<div class="legend" role="group" aria-label="Show only">${[...counts].map(([status, count]) => html`
    <button type="button" key=${status} aria-pressed=${chosen === status} onClick=${() => onChoose(chosen === status ? "" : status)}><${Status} status=${status} /><span class="count">${integer(count)}</span></button>`)}
  </div>`;
}

/** Loads heat maps of the visible fan-outs, repeatedly while their tasks run. @param {string} id @param {any[]} nodes @param {boolean} open */
function useHeats(id, nodes, open) {
  const { api } = useApp();
  const [heats, setHeats] = useState(/** @type {Map<string, any>} */ (new Map()));
  const state = useRef({ seen: /** @type {number[]} */ ([]), done: new Set(), busy: false, timer: 0 });
  const latest = useRef({ nodes, heats });
  latest.current = { nodes, heats };
  const loadHeats = async () => {
    const { current } = state;
    if (current.busy) return;
    const due = current.seen.map((nth) => latest.current.nodes[nth]).filter((node) => node?.expanded && node.started_at && !current.done.has(node.id)).slice(0, MAX_HEATS);
    if (!due.length) return;
    current.busy = true;
    const found = await Promise.all(due.map((node) => api.get(`v1/runs/${pathOf(id)}/heatmap`, { group: node.group, task: node.task, cells: HEAT_CELLS }).then((heat) => [node.id, heat], () => null)));
    current.busy = false;
    // The heat map of a task that had ended before the request does not change any more.
    for (const node of due) if (node.ended_at) current.done.add(node.id);
    setHeats(new Map([...latest.current.heats, .../** @type {any[]} */ (found.filter(Boolean))]));
  };
  useEvery(open, 1000, loadHeats);
  useEffect(() => void loadHeats(), [nodes]);
  useEffect(() => () => clearTimeout(state.current.timer), []);
  const onSeen = (/** @type {number[]} */ seen) => {
    state.current.seen = seen;
    clearTimeout(state.current.timer);
    state.current.timer = window.setTimeout(loadHeats, 120);
  };
  return { heats, onSeen };
}

/** @param {{ nodes: any[], edges: [number, number][], onOpen: (group: string) => void }} properties */
function GroupGraph({ nodes, edges, onOpen }) {
  const groupGraph = useMemo(() => grouped(nodes.map((node) => node.group), edges), [nodes.length, edges]);
  const tiles = useMemo(() => groupGraph.names.map((name) => groupNode(name, nodes.filter((node) => node.group === name))), [groupGraph, nodes]);
  return html`<${Graph} nodes=${tiles} edges=${groupGraph.edges} framed=${false} label=${`Graph of ${counted(tiles.length, "group")}`} onOpen=${(/** @type {number} */ nth) => onOpen(tiles[nth].task)} />`;
}

/** A group as a node: its tasks are its members. @param {string} name @param {any[]} nodes */
function groupNode(name, nodes) {
  const count = (/** @type {string[]} */ ...statuses) => nodes.filter((node) => statuses.includes(node.status)).length;
  const ended = nodes.every((node) => node.ended_at || !appearanceOf(node.status).open);
  const stopped = ["cancelled", "timed_out"].find((each) => count(each) > 0);
  const status = count("failed") ? "failed" : ended ? (stopped ?? "completed") : count("running", "awaiting", "completed") ? "running" : "waiting";
  const times = (/** @type {string} */ field) => nodes.map((node) => node[field]).filter(Boolean);
  return {
    id: `group ${name}`, group: name, task: name, phase: nodes[0]?.phase, agent: counted(nodes.length, "task"), status, expanded: false, members: nodes.length,
    completed: count("completed"), failed: count("failed"), running: count("running"),
    started_at: times("started_at").length ? Math.min(...times("started_at")) : null,
    ended_at: ended && times("ended_at").length ? Math.max(...times("ended_at")) : null,
  };
}

/** @param {{ nodes: any[], matching: Set<number> | null, onOpen: (nth: number) => void }} properties */
function TaskList({ nodes, matching, onOpen }) {
  const [limit, setLimit] = useState(MAX_LISTED);
  const rows = nodes.map((node, nth) => ({ node, nth })).filter(({ nth }) => !matching || matching.has(nth));
  rows.sort((a, b) => (a.node.level ?? 0) - (b.node.level ?? 0));
  return html`<div class="table-wrap"><table class="rows cards">
    <caption class="unseen">Tasks by level</caption>
    <thead><tr><th class="number">Level</th><th>Group</th><th class="wide">Task</th><th>Agent</th><th>Status</th><th>Members</th><th class="number">Took</th></tr></thead>
    <tbody>${rows.slice(0, limit).map(({ node, nth }) => html`<tr key=${node.id}>
      <td data-title="Level" class="number figure">${node.level ?? "–"}</td><td data-title="Group">${node.group}</td>
      <td class="wide main-cell"><button type="button" class="link" onClick=${() => onOpen(nth)}>${shownName(node)}</button>${flowText(node) && html`<span class="flow-text">${flowText(node)}</span>`}</td>
      <td data-title="Agent"><code>${node.agent || "–"}</code></td><td data-title="Status"><${Status} status=${node.status} /></td>
      <td data-title="Members">${node.expanded ? html`<${Progress} counts=${node} />` : html`<span class="muted">1</span>`}</td>
      <td data-title="Took" class="number"><${Took} from=${node.started_at} to=${node.ended_at ?? (appearanceOf(node.status).open ? null : node.started_at)} /></td>
    </tr>`)}</tbody>
  </table>${rows.length > limit && html`<button type="button" onClick=${() => setLimit(limit + 1000)}>Show more of ${integer(rows.length)}</button>`}</div>`;
}
