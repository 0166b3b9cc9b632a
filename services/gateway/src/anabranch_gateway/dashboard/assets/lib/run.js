// @ts-check
/** Converts the view of a run into the shapes that the tabs need. Pure. */

import { flowNote, pathOfTask, statusOfTask } from "./flow.js";
import { counted, integer } from "./format.js";
import { duration } from "./time.js";

/**
 * @typedef {{
 *   group: string, task: string, status: string, started_at: number | null, ended_at: number | null, expanded: boolean,
 *   members: number | null, started: number, completed: number, failed: number, held: number, attempts: number,
 *   running: number,
 * }} TaskRow
 */

/**
 * The tasks of a view as a list, in its order.
 * @param {any} view
 * @returns {TaskRow[]}
 */
export function taskRows(view) {
  return Object.entries(view?.groups ?? {}).flatMap(([group, { tasks }]) =>
    Object.entries(tasks ?? {}).map(([task, each]) => ({ group, task, ...each, running: runningOf(each) })),
  );
}

/** Members that have started and not ended. @param {any} task */
export const runningOf = (task) =>
  Math.max(0, (task.started ?? 0) - (task.completed ?? 0) - (task.failed ?? 0));

/**
 * Sums of all members of a run. A view may not have all tasks yet; a missing one counts as one member.
 * @param {TaskRow[]} rows
 * @param {any[]} [nodes] all tasks of the run, if they are known
 */
export function totals(rows, nodes = []) {
  const unseen = Math.max(0, nodes.length - rows.length);
  const sum = { groups: new Set(rows.map((row) => row.group)).size, tasks: rows.length + unseen, members: unseen, completed: 0, failed: 0, held: 0, running: 0, skipped: 0 };
  for (const row of rows) {
    sum.members += row.members ?? 1;
    sum.completed += row.completed ?? 0;
    sum.failed += (row.failed ?? 0) - (row.held ?? 0);
    sum.held += row.held ?? 0;
    sum.running += row.status === "running" ? row.running : 0;
    sum.skipped += row.status === "skipped" ? 1 : 0;
  }
  return sum;
}

/**
 * The parts of a bar, each 0 to 1. If the completed share is known, the ended members take exactly that, so the bar
 * does not shrink when an expansion adds members.
 * @param {{ members?: number | null, completed?: number, failed?: number, running?: number, share?: number | null }} counts
 */
export function sharesOf(counts) {
  const { completed = 0, failed = 0, running = 0 } = counts;
  const ended = completed + failed;
  const total = Math.max(counts.members ?? 0, ended + running, 1);
  const done = counts.share ?? ended / total;
  const left = total - ended;
  return {
    completed: ended ? (done * completed) / ended : done,
    failed: ended ? (done * failed) / ended : 0,
    running: left ? ((1 - done) * running) / left : 0,
  };
}

/** The name of a task in the address and in the API's graph. @param {{ group: string, task: string }} row */
export const taskId = (row) => `${row.group}/${row.task}`;

/**
 * The second line on the tile of a task.
 * @param {{ status: string, agent?: string, started_at: number | null, ended_at: number | null, expanded?: boolean | null,
 *   members?: number | null, completed?: number, failed?: number }} task
 */
export function noteOf(task) {
  const took = task.started_at && task.ended_at ? duration(task.ended_at - task.started_at) : "";
  if (task.expanded && task.members !== null && task.members !== undefined) {
    const ended = (task.completed ?? 0) + (task.failed ?? 0);
    const members = ended >= task.members || ended === 0 ? counted(task.members, "member") : `${integer(ended)} of ${integer(task.members)}`;
    return [members, task.failed ? `${integer(task.failed)} failed` : took].filter(Boolean).join(" · ");
  }
  const flow = flowNote(task, took);
  if (flow) return flow;
  return [task.agent, took].filter(Boolean).join(" · ");
}

/** True if the tile of a task has space for members. @param {{ expanded?: boolean | null, members?: number | null }} task */
export const isFanOut = (task) => Boolean(task.expanded);

/**
 * The nodes of a graph, updated from a newer view, and the indexes of those that have changed.
 * @param {any[]} nodes
 * @param {any} view
 * @returns {{ nodes: any[], changed: number[] }}
 */
export function withStatuses(nodes, view) {
  /** @type {number[]} */
  const changed = [];
  const next = nodes.map((node, nth) => {
    const task = view?.groups?.[node.group]?.tasks?.[node.task];
    const newer = task && { ...task, status: statusOfTask(task) };
    const isFlow = newer && hasFlow(newer, node);
    if (!newer || !(LIVE.some((field) => newer[field] !== undefined && newer[field] !== node[field]) || (isFlow && flowChanged(newer, node)))) return node;
    changed.push(nth);
    const live = Object.fromEntries(LIVE.map((field) => [field, newer[field] ?? node[field]]));
    return { ...node, ...live, ...(isFlow ? Object.fromEntries(FLOW.map((field) => [field, newer[field] ?? null])) : {}) };
  });
  return { nodes: next, changed };
}

const LIVE = ["status", "started", "completed", "failed", "held", "share", "members", "started_at", "ended_at", "expanded"];
/** Fields that a view leaves out if they have no value: a loop's next iteration may lack those of the last one. */
const FLOW = ["waits", "iteration", "loop", "chosen", "ended_by", "reason", "because"];

/** @param {any} task @param {any} node */
const hasFlow = (task, node) => Boolean(task.waits?.length || task.iteration || task.loop || task.ended_by || task.because || task.chosen !== undefined || node.waits?.length || node.because);

/** @param {any} task @param {any} node */
const flowChanged = (task, node) => FLOW.some((field) => text(task[field]) !== text(node[field]));

/** An empty list is as good as none. @param {any} value */
const text = (value) => JSON.stringify(value?.length === 0 ? null : (value ?? null));

/** Sub-runs of one task that a timeline shows, each with a row. */
const MAX_CHILD_ROWS = 20;

/**
 * The bars of a timeline in seconds since the run's start, by group, in order of their start. A loop has a part for each
 * of its last iterations; a sub-run has a bar below its task.
 * @param {any} view
 * @param {number} now
 */
export function timeline(view, now) {
  const rows = taskRows(view).map((row) => ({ ...row, status: statusOfTask(row) }));
  const known = rows.flatMap((row) => (row.started_at === null || row.started_at === undefined ? [] : [row.started_at]));
  const began = Math.min(view.started_at ?? view.submitted_at ?? now, ...known);
  const end = Math.max(began + 0.001, view.ended_at ?? now, ...rows.map((row) => row.ended_at ?? began));
  const bar = (/** @type {any} */ row) => {
    const at = row.started_at ?? null;
    const isOpen = row.status === "running" || row.status === "awaiting";
    return { at: at === null ? null : at - began, length: at === null ? null : Math.max(0, (row.ended_at ?? (isOpen ? end : at)) - at) };
  };
  const children = childrenByTask(view);
  /** @type {Map<string, any[]>} */
  const groups = new Map();
  for (const row of rows) {
    const bars = groups.get(row.group) ?? [];
    const parts = row.loop ? partsOf(row.loop, end).map((/** @type {any} */ part) => ({ ...part, ...bar({ ...part, status: "completed" }) })) : [];
    const below = (children.get(taskId(row)) ?? []).slice(0, MAX_CHILD_ROWS).map((/** @type {any} */ child) => ({ ...child, ...bar(child) }));
    bars.push({ ...row, ...bar(row), path: pathOfTask(row, view.groups[row.group].tasks), parts, children: below });
    groups.set(row.group, bars);
  }
  const ordered = [...groups].map(([group, bars]) => ({ group, bars: bars.sort((a, b) => (a.at ?? Infinity) - (b.at ?? Infinity)) }));
  ordered.sort((a, b) => (a.bars[0]?.at ?? Infinity) - (b.bars[0]?.at ?? Infinity));
  return { began, span: end - began, groups: ordered };
}

/** The iterations of a loop of which the times are known, the running one last. @param {import("./flow.js").LoopState} loop @param {number} end */
function partsOf(loop, end) {
  const parts = loop.last.filter((each) => each.started_at !== null).map((each) => ({ ...each, isRunning: false }));
  const last = loop.last.at(-1);
  if (loop.running !== null && last) parts.push({ number: loop.running, status: "running", started_at: last.ended_at, ended_at: end, isRunning: true });
  return parts;
}

/** @param {any} view @returns {Map<string, any[]>} */
function childrenByTask(view) {
  const found = new Map();
  const ordered = [...(view.children ?? [])].sort((a, b) => (a.index ?? 0) - (b.index ?? 0) || a.started_at - b.started_at);
  for (const child of ordered) found.set(taskId(child), [...(found.get(taskId(child)) ?? []), child]);
  return found;
}
