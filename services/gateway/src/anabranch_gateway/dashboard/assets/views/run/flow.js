// @ts-check
/** What the drawer of a task says of control flow: its condition, its waits with their decisions, its iterations, its sub-runs. */

import { counted, integer } from "../../lib/format.js";
import { shownName, stripOf, textOfDeclared, textOfLoop, textOfWait } from "../../lib/flow.js";
import { format } from "../../lib/router.js";
import { Ago, Status, Took } from "../../ui/components.js";
import { html } from "../../vendor/index.js";
import { Approval } from "../approvals.js";

const MAX_WAITS = 20;
/** Members of one wait whose decision is asked for here; the inbox has all of them. */
const MAX_ASKED = 5;
const KINDS = /** @type {Record<string, string>} */ ({ switch: "Switch", loop: "Loop", wait: "Wait", run: "Sub-run" });

/** Rows of the table of details. @param {any} node @param {any[]} nodes @returns {[string, any][]} */
export function flowDetails(node, nodes) {
  const link = (/** @type {string} */ id) => {
    const found = nodes.find((each) => each.id === id);
    return found ? shownName(found) : id;
  };
  return [
    ["Kind", node.kind && KINDS[node.kind]],
    ["Condition", node.when && html`<code>${node.when}</code>`],
    ["Branch", node.branch && html`case ${node.branch.case} of ${link(node.branch.switch)}: <code>${node.branch.text}</code>`],
    ["Chose", node.kind === "switch" && node.chosen !== null && node.chosen !== undefined && chosenText(node, nodes)],
    ["Ends", node.bound],
    ["In loop", node.in_loop && `${link(node.in_loop)}${node.iteration ? `, iteration ${node.iteration.join(".")}` : ""}`],
    ["Waits for", node.kind === "wait" && !node.waits?.length && node.wait && textOfDeclared(node.wait)],
    ["Ended by", node.ended_by],
    ["Phase", node.phase && (node.phase === "finally" ? "finally, after all else has ended" : "compensation, after the run failed or was stopped")],
  ];
}

/** @param {any} node @param {any[]} nodes */
function chosenText(node, nodes) {
  if (node.chosen < 0) return "no case";
  const chosen = nodes.find((each) => each.branch?.switch === node.id && each.branch.case === node.chosen);
  return html`case ${node.chosen}${chosen && html`: <code>${chosen.branch.text}</code>`}`;
}

/** Open waits, and the form of those that wait for a person. @param {{ id: string, view: any, node: any }} properties */
export function Waits({ id, view, node }) {
  const waits = node.waits ?? [];
  if (!waits.length) return null;
  return html`<h3>Waits for</h3><ul class="open-waits">${waits.slice(0, MAX_WAITS).map((/** @type {any} */ wait, /** @type {number} */ nth) => html`<li key=${nth}>
      <p>${textOfWait(wait)} <span class="muted">since <${Ago} at=${wait.since} />${wait.until && html`, until <${Ago} at=${wait.until} />`}${node.expanded && `, ${counted(count(wait), "member")}`}</span></p>
      ${wait.reason === "approval" && asked(id, view, node, wait).map((/** @type {any} */ approval) => html`<${Approval} key=${approval.index} approval=${approval} onDecided=${() => undefined} />`)}
    </li>`)}</ul>
    ${waits.some((/** @type {any} */ wait) => wait.reason === "approval") && html`<p><a href="#/approvals">All approvals</a></p>`}`;
}

/** @param {any} wait */
const count = (wait) => wait.members.reduce((/** @type {number} */ sum, /** @type {[number, number]} */ [start, stop]) => sum + stop - start, 0);

/** The approvals of the first members of a wait, as the inbox has them. @param {string} id @param {any} view @param {any} node @param {any} wait */
function asked(id, view, node, wait) {
  const indexes = wait.members.flatMap((/** @type {[number, number]} */ [start, stop]) => Array.from({ length: Math.min(MAX_ASKED, stop - start) }, (_, nth) => start + nth));
  return indexes.slice(0, MAX_ASKED).map((/** @type {number} */ index) => ({
    assignees: [], options: [], required: 1, body: null, form: null,
    ...wait.approval, run_id: id, run_name: view?.name, group: node.group, task: node.task, index: node.expanded ? index : null,
    since: wait.since, until: wait.until ?? null, decisions: wait.decisions ?? [],
  }));
}

/** The last iterations of a loop as a table: the strip in the graph as text. @param {{ node: any }} properties */
export function Iterations({ node }) {
  if (node.kind !== "loop" || !node.loop) return null;
  const { cells, earlier } = stripOf(node.loop, Infinity);
  const ended = new Map(node.loop.last.map((/** @type {any} */ each) => [each.number, each]));
  return html`<h3>Iterations</h3><p>${textOfLoop(node.loop)}${earlier > 0 && html`<span class="muted">, the last ${integer(cells.length)} are listed</span>`}</p>
    <div class="iterations" tabindex="0" role="region" aria-label="Iterations"><table class="rows">
      <thead><tr><th class="number">Iteration</th><th>Status</th><th class="number">Took</th></tr></thead>
      <tbody>${cells.reverse().map((cell) => html`<tr key=${cell.number}><td class="number figure">${shownName(node)}[${cell.number}]</td>
        <td><${Status} status=${cell.running ? "running" : ended.get(cell.number)?.status} /></td>
        <td class="number">${ended.get(cell.number) ? html`<${Took} from=${ended.get(cell.number).started_at} to=${ended.get(cell.number).ended_at} />` : "–"}</td></tr>`)}</tbody>
    </table></div>`;
}

/** Links to the sub-runs of a task. @param {{ view: any, node: any }} properties */
export function SubRuns({ view, node }) {
  const children = (view?.children ?? []).filter((/** @type {any} */ child) => child.group === node.group && child.task === node.task);
  if (node.kind !== "run" || !children.length) return null;
  children.sort((/** @type {any} */ a, /** @type {any} */ b) => (a.index ?? 0) - (b.index ?? 0) || a.started_at - b.started_at);
  const listed = view.children.length;
  return html`<h3>Sub-runs</h3><ul class="links">${children.map((/** @type {any} */ child) => html`<li key=${child.run_id}>
      <a href=${format(["runs", child.run_id])}><${Status} status=${child.status} /> ${shownName(node)}${child.index === null ? "" : ` [${child.index}]`}${child.iteration ? `, iteration ${child.iteration.join(".")}` : ""}${(child.attempt ?? 1) > 1 ? `, attempt ${child.attempt}` : ""}</a>
    </li>`)}</ul>${view.child_count > listed && html`<p class="muted">The run has ${integer(view.child_count)} sub-runs; the first ${integer(listed)} are listed.</p>`}`;
}
