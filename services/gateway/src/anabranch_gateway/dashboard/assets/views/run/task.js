// @ts-check
/** The drawer of a task: its details, dependencies, results and members. */

import { counted, integer, used } from "../../lib/format.js";
import { executorText, shownName } from "../../lib/flow.js";
import { format } from "../../lib/router.js";
import { appearanceOf } from "../../lib/status.js";
import { Dialog } from "../../ui/dialog.js";
import { StatusIcon } from "../../ui/icons.js";
import { Ago, Details, Progress, Status, Took } from "../../ui/components.js";
import { html } from "../../vendor/index.js";
import { flowDetails, Iterations, SubRuns, Waits } from "./flow.js";
import { MemberDetails } from "./member.js";

const MAX_LINKS = 30;

/**
 * @param {{ id: string, view: any, node: any, nodes: any[], edges: [number, number][], nth: number, onClose: () => void, onOpen: (nth: number) => void }} properties
 */
export function TaskDrawer({ id, view, node, nodes, edges, nth, onClose, onOpen }) {
  const needs = edges.filter(([, to]) => to === nth).map(([from]) => from);
  const neededBy = edges.filter(([from]) => from === nth).map(([, to]) => to);
  const members = format(["runs", id, "members"], { task: node.id });
  return html`<${Dialog} kind="drawer" title=${`Task ${shownName(node)}`} heading=${html`<${StatusIcon} status=${node.status} /> ${shownName(node)}`} onClose=${onClose}>
    <${Details} items=${[
      ["Status", html`<${Status} status=${node.status} />`],
      ["Because", node.because],
      ["Group", node.group],
      ...flowDetails(node, nodes),
      ["Agent", node.agent && html`<code>${node.agent}</code>`],
      ["Runs as", node.executor && executorText(node)],
      ["Started", node.started_at && html`<${Ago} at=${node.started_at} />`],
      ["Took", node.started_at && html`<${Took} from=${node.started_at} to=${node.ended_at ?? (appearanceOf(node.status).open ? null : node.started_at)} />`],
      ["Members", node.expanded && node.members !== null && html`<a href=${members}>${counted(node.members, "member")}</a>`],
      ["Failed", node.failed > 0 && html`<a href=${format(["runs", id, "members"], { task: node.id, status: "failed" })}>${integer(node.failed)} failed</a>`],
      ["Used", node.costs && used(node.costs)],
      ["Held", node.held > 0 && html`<a href="#/dead-letters">${integer(node.held)} held for a decision</a>`],
    ]} />
    <${Waits} id=${id} view=${view} node=${node} />
    <${Iterations} node=${node} />
    <${SubRuns} view=${view} node=${node} />
    ${node.expanded && html`<p><${Progress} counts=${node} /></p><p><a class="button" href=${members}>Show the members</a></p>`}
    ${node.result_keys?.length > 0 && html`<h3>Produces</h3><ul class="keys">${node.result_keys.map((/** @type {string} */ key) => html`<li><a href=${format(["runs", id, "results"], { key })}><code>${key}</code></a></li>`)}</ul>`}
    <${Links} title="Depends on" indexes=${needs} nodes=${nodes} onOpen=${onOpen} />
    <${Links} title="Used by" indexes=${neededBy} nodes=${nodes} onOpen=${onOpen} />
    ${!node.expanded && !node.kind && node.started_at && html`<${MemberDetails} id=${id} group=${node.group} task=${node.task} index="-" version=${node.status} />`}
  <//>`;
}

/** @param {{ title: string, indexes: number[], nodes: any[], onOpen: (nth: number) => void }} properties */
function Links({ title, indexes, nodes, onOpen }) {
  if (!indexes.length) return null;
  return html`<h3>${title}</h3><ul class="links">
    ${indexes.slice(0, MAX_LINKS).map((nth) => html`<li key=${nth}><button type="button" class="link" onClick=${() => onOpen(nth)}><${StatusIcon} status=${nodes[nth].status} size=${14} /><span>${shownName(nodes[nth])}</span></button></li>`)}
    ${indexes.length > MAX_LINKS && html`<li class="muted">and ${integer(indexes.length - MAX_LINKS)} more</li>`}
  </ul>`;
}
