// @ts-check
/** Converts the view of a run into the shapes that the tabs need. Pure. */

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
    if (!task || !LIVE.some((field) => task[field] !== undefined && task[field] !== node[field])) return node;
    changed.push(nth);
    return { ...node, ...Object.fromEntries(LIVE.map((field) => [field, task[field] ?? node[field]])) };
  });
  return { nodes: next, changed };
}

const LIVE = ["status", "started", "completed", "failed", "held", "share", "members", "started_at", "ended_at", "expanded"];

/**
 * The bars of a timeline in seconds since the run's start, by group, in order of their start.
 * @param {any} view
 * @param {number} now
 */
export function timeline(view, now) {
  const rows = taskRows(view);
  const known = rows.flatMap((row) => (row.started_at === null || row.started_at === undefined ? [] : [row.started_at]));
  const began = Math.min(view.started_at ?? view.submitted_at ?? now, ...known);
  const end = Math.max(began + 0.001, view.ended_at ?? now, ...rows.map((row) => row.ended_at ?? began));
  /** @type {Map<string, any[]>} */
  const groups = new Map();
  for (const row of rows) {
    const bars = groups.get(row.group) ?? [];
    const at = row.started_at ?? null;
    bars.push({ ...row, at: at === null ? null : at - began, length: at === null ? null : Math.max(0, (row.ended_at ?? (row.status === "running" ? end : at)) - at) });
    groups.set(row.group, bars);
  }
  const ordered = [...groups].map(([group, bars]) => ({ group, bars: bars.sort((a, b) => (a.at ?? Infinity) - (b.at ?? Infinity)) }));
  ordered.sort((a, b) => (a.bars[0]?.at ?? Infinity) - (b.bars[0]?.at ?? Infinity));
  return { began, span: end - began, groups: ordered };
}
