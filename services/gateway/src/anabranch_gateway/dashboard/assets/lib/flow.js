// @ts-check
/**
 * What the control flow of a run looks like: names of its steps, texts of conditions and waits, the strip of a loop's
 * iterations, the edges of a switch. Pure.
 */

import { counted, integer, oneLine } from "./format.js";
import { absolute, duration } from "./time.js";

/**
 * @typedef {{ number: number, status: string, started_at: number | null, ended_at: number | null }} Iteration
 * @typedef {{ running: number | null, ended: number, failed: number, last: Iteration[] }} LoopState
 * @typedef {{ number: number, tone: "good" | "bad" | "running", running: boolean }} StripCell
 * @typedef {{ label: string, look: "plain" | "chosen" | "other" | "optional" | "inside" }} EdgeMark `inside`: not drawn
 */

/** What a task is, by its kind. */
const KINDS = /** @type {Record<string, string>} */ ({ switch: "switch", loop: "loop", wait: "wait", run: "sub-run" });

/** The phases of a run's end, with what people read about them. */
export const PHASES = /** @type {Record<string, string>} */ ({
  compensate: "Compensation, last task first",
  finally: "Finally, after all else",
});

/** The name of a task for people: a loop of a whole group has its name. @param {{ task: string, group: string }} node */
export function shownName({ task, group }) {
  if (task === "(loop)" && group !== "steps") return group;
  return /^\(.+\)$/.test(task) ? task.slice(1, -1) : task;
}

/** How workers execute the agent of a task: "container registry.example/resize:3, convert with 2 arguments". @param {{ executor: string, program?: { image?: string, command?: string, arguments?: number, namespace?: string } | null }} node */
export function executorText({ executor, program }) {
  if (executor === "in-process") return "Python, in its worker";
  const { image, command, arguments: count, namespace } = program ?? {};
  const called = command && count ? `${command} with ${counted(count, "argument")}` : command;
  const parts = [image, called, namespace && `in namespace ${namespace}`].filter(Boolean);
  return parts.length ? `${executor} ${parts.join(", ")}` : `${executor}, which its inputs name`;
}

/** The name of a task with the iterations of its loops: "writing[3]/draft". @param {any} task @param {Record<string, any>} tasks of its group, by name */
export function pathOfTask(task, tasks) {
  const iteration = task.iteration ?? [];
  const loops = [];
  for (let loop = task; loop?.in_loop && loops.length < iteration.length; loop = tasks[loop.in_loop]) loops.unshift(loop.in_loop);
  while (loops.length < iteration.length) loops.unshift("(loop)");
  const named = loops.map((/** @type {string} */ loop, /** @type {number} */ nth) => `${shownName({ task: loop, group: task.group })}[${iteration[nth]}]/`);
  return named.join("") + shownName(task);
}

/** The place of an event, with the iteration of the loops around its task. @param {any} event */
export function placeOfEvent(event) {
  if (!event.task) return event.group ?? "";
  if (!event.iteration?.length) return `${event.group} / ${shownName(event)}`;
  const isLoop = event.type.startsWith("iteration.");
  const path = pathOfTask({ ...event, iteration: isLoop ? event.iteration.slice(0, -1) : event.iteration }, {});
  return `${event.group} / ${path}${isLoop ? `[${event.iteration.at(-1)}]` : ""}`;
}

/** The status that people see: a task that only waits is not running. @param {{ status: string, waits?: any[] | null }} task */
export const statusOfTask = (task) => (task.status === "running" && task.waits?.length ? "awaiting" : task.status);

/** What one open wait waits for. @param {any} wait of a view */
export function textOfWait(wait) {
  if (wait.reason === "approval") {
    const who = wait.approval?.assignees?.join(", ") || "a person";
    return `the decision of ${who}${wait.approval?.subject ? `: ${wait.approval.subject}` : ""}`;
  }
  if (wait.reason === "time") return wait.until ? `the time ${absolute(wait.until)}` : "a time";
  if (wait.reason === "signal" || wait.reason === "event") return `the ${wait.reason} ${wait.name ?? ""}`.trimEnd();
  return `a ${wait.reason}`;
}

/** What a task with `wait` is about, before it begins. @param {{ kind: string, of: unknown }} wait of the graph */
export function textOfDeclared({ kind, of }) {
  if (kind === "for") return typeof of === "number" ? duration(of) : `for ${of}`;
  if (kind === "approval") return of ? `approval: ${of}` : "approval";
  return `${kind} ${of}`;
}

/** "30 iterations, 2 failed, iteration 30 runs". @param {LoopState | null | undefined} loop */
export function textOfLoop(loop) {
  if (!loop) return "no iteration yet";
  const parts = [counted(loop.ended, "iteration")];
  if (loop.failed) parts.push(`${integer(loop.failed)} failed`);
  if (loop.running !== null && loop.running !== undefined) parts.push(`[${loop.running}] runs`);
  return parts.join(", ");
}

/**
 * The strip of a loop: a cell for each of the last iterations, at most `limit`, and the running one at the end.
 * @param {LoopState | null | undefined} loop
 * @param {number} limit
 * @returns {{ cells: StripCell[], earlier: number }} `earlier`: iterations that ended and have no cell
 */
export function stripOf(loop, limit) {
  if (!loop) return { cells: [], earlier: 0 };
  const runs = loop.running !== null && loop.running !== undefined;
  const shown = loop.last.slice(-Math.max(0, limit - (runs ? 1 : 0)));
  /** @type {StripCell[]} */
  const cells = shown.map(({ number, status }) => ({ number, tone: status === "failed" ? "bad" : "good", running: false }));
  if (runs) cells.push({ number: /** @type {number} */ (loop.running), tone: "running", running: true });
  return { cells, earlier: Math.max(0, loop.ended - shown.length) };
}

/**
 * What controls a task, as one line; empty for an ordinary one.
 * @param {any} node of the graph
 */
export function flowText(node) {
  const parts = [];
  if (node.status === "skipped" && (node.because || node.reason)) parts.push(node.because || node.reason);
  if (node.kind && node.kind !== "loop") parts.push(KINDS[node.kind] ?? node.kind);
  if (node.when) parts.push(`if ${node.when}`);
  if (node.branch) parts.push(node.branch.text === "else" ? "else" : `case ${node.branch.text}`);
  if (node.kind === "loop") parts.push(`loop ${node.bound}`, textOfLoop(node.loop));
  if (node.in_loop) parts.push(`in loop ${shownName({ group: node.group, task: node.in_loop.slice(node.group.length + 1) })}${node.iteration ? `, iteration ${node.iteration.join(".")}` : ""}`);
  if (node.waits?.length) parts.push(`waits for ${textOfWait(node.waits[0])}`);
  else if (node.wait && node.kind === "wait" && !node.ended_by) parts.push(textOfDeclared(node.wait));
  if (node.ended_by) parts.push(`ended by ${node.ended_by}`);
  if (node.phase) parts.push(node.phase);
  return parts.join(" · ");
}

/**
 * The second line on the tile of a task that is more than an ordinary one; empty for that.
 * @param {any} node
 * @param {string} took
 */
export function flowNote(node, took) {
  if (node.status === "skipped") return `skipped: ${node.reason === "branch" ? "another case" : oneLine(node.because || node.reason || "", 80)}`;
  if (node.waits?.length) return `waits for ${oneLine(textOfWait(node.waits[0]), 80)}`;
  if (node.kind === "wait") return [node.ended_by ? `ended by ${node.ended_by}` : node.wait ? textOfDeclared(node.wait) : "wait", took].filter(Boolean).join(" · ");
  if (node.kind === "switch") return node.chosen === -1 ? "no case is true" : node.chosen === undefined || node.chosen === null ? "chooses a case" : "chose a case";
  if (node.kind === "loop") return textOfLoop(node.loop);
  if (node.kind === "run") return ["sub-run", node.definition, took].filter(Boolean).join(" · ");
  if (node.when) return `if ${oneLine(node.when, 80)}`;
  return "";
}

/**
 * How edges look that are no plain dependencies, by their number. An edge between a loop and its body is not drawn: the
 * body is inside of the loop's box.
 * @param {any[]} nodes
 * @param {[number, number][]} edges
 * @param {Iterable<number>} [optional]
 * @returns {Map<number, EdgeMark>}
 */
export function edgeMarks(nodes, edges, optional = []) {
  /** @type {Map<number, EdgeMark>} */
  const marks = new Map();
  if (!nodes.some((node) => node.kind || node.phase)) return marks;
  const any = new Set(optional);
  const parents = parentsOf(nodes);
  edges.forEach(([from, to], nth) => {
    const branch = nodes[to].branch;
    if (isAround(parents, from, to) || isAround(parents, to, from)) marks.set(nth, { label: "", look: "inside" });
    else if (branch && branch.switch === nodes[from].id) {
      const chosen = nodes[from].chosen;
      const look = chosen === null || chosen === undefined ? "plain" : chosen === branch.case ? "chosen" : "other";
      marks.set(nth, { label: branch.text, look });
    } else if (any.has(nth)) marks.set(nth, { label: "", look: "optional" });
  });
  return marks;
}

/** The index of the loop around each node, or -1. @param {any[]} nodes @returns {number[]} */
export function parentsOf(nodes) {
  const indexes = new Map(nodes.map((node, nth) => [node.id, nth]));
  return nodes.map((node) => (node.in_loop === undefined || node.in_loop === null ? -1 : (indexes.get(node.in_loop) ?? -1)));
}

/** True if a node is a loop around another one. @param {number[]} parents @param {number} loop @param {number} node */
function isAround(parents, loop, node) {
  let at = parents[node];
  for (let depth = 0; at >= 0 && depth < parents.length; depth += 1) {
    if (at === loop) return true;
    at = parents[at];
  }
  return false;
}

/**
 * The fields of a plan's task that a node of a graph has.
 * @param {any} task of `plan --json`
 * @param {any[]} tasks all tasks of the plan
 */
export function planFlow(task, tasks) {
  const switchOf = (/** @type {string} */ id) => tasks.find((each) => `${each.group}/${each.name}` === id)?.switch;
  const [kind, of] = Object.entries(task.wait ?? {}).find(([name]) => WAITS.includes(name)) ?? [];
  return {
    ...(task.kind && task.kind !== "task" ? { kind: task.kind } : {}),
    ...(task.group === "finally" ? { phase: "finally" } : {}),
    ...(kind ? { wait: { kind, of: declared(of) } } : {}),
    status: task.will_skip ? "skipped" : "waiting",
    because: task.will_skip ? "the context of the request decides it" : null,
    when: task.when_text ?? null,
    in_loop: task.in_loop ?? null,
    bound: task.bound ?? null,
    chosen: task.switch?.chosen ?? null,
    branch: task.branch ? { ...task.branch, text: switchOf(task.branch.switch)?.cases[task.branch.case] ?? "else" } : null,
  };
}

const WAITS = ["for", "until", "condition", "event", "signal", "approval"];

/** @param {any} of */
const declared = (of) => (typeof of === "object" && of !== null ? (of.subject ?? of.name ?? JSON.stringify(of)) : of);
