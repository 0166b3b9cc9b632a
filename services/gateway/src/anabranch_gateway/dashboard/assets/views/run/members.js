// @ts-check
/** The members of a task: a heat map of all, a table with a page of them, and a drawer with one. */

import { pathOf } from "../../lib/api.js";
import { counted, integer, oneLine } from "../../lib/format.js";
import { useApp, useEvery, useLoaded } from "../../lib/hooks.js";
import { format, go } from "../../lib/router.js";
import { taskId, taskRows } from "../../lib/run.js";
import { Dialog } from "../../ui/dialog.js";
import { HeatMap } from "../../ui/heatmap.js";
import { Icon } from "../../ui/icons.js";
import { Choice, Empty, Failure, Loading, Status, Took } from "../../ui/components.js";
import { html, useMemo } from "../../vendor/index.js";
import { MemberDetails } from "./member.js";

const PAGE = 100;
const HEAT_CELLS = 900;
const FILTERS = [{ value: "", label: "All" }, { value: "failed", label: "Failed" }, { value: "running", label: "Running" }, { value: "completed", label: "Completed" }, { value: "waiting", label: "Waiting" }];

/** @param {{ id: string, view: any, open: boolean, query: Record<string, string> }} properties */
export function MembersTab({ id, view, open, query }) {
  const { api } = useApp();
  const rows = useMemo(() => taskRows(view), [view]);
  const selected = rows.find((row) => taskId(row) === query.task) ?? defaultTask(rows);
  const from = Number(query.from ?? 0) || 0;
  const set = (/** @type {Record<string, any>} */ change, replace = true) => go(format(["runs", id, "members"], { ...query, task: selected ? taskId(selected) : "", ...change }), { replace });
  const where = selected ? { group: selected.group, task: selected.task } : null;
  const base = `v1/runs/${pathOf(id)}`;
  const members = useLoaded(where && ((signal) => api.get(`${base}/members`, { ...where, status: query.status, from, limit: PAGE }, signal)), [where, query.status, from]);
  const heat = useLoaded(where && selected?.expanded ? (signal) => api.get(`${base}/heatmap`, { ...where, cells: HEAT_CELLS }, signal) : null, [where, selected?.expanded]);
  const isLive = open && selected?.status === "running";
  useEvery(isLive, 1500, async () => void (await Promise.all([members.reload(), heat.reload()])));
  const ended = selected?.ended_at;
  useLoaded(ended ? async () => (await Promise.all([members.reload(), heat.reload()]), null) : null, [where, ended]);
  if (!selected) return html`<${Empty} title="No task has started yet"><p>The members of a task are listed here.</p><//>`;

  return html`<div class="members">
    <div class="toolbar">
      <label class="field">Task <select value=${taskId(selected)} onChange=${(/** @type {any} */ event) => set({ task: event.target.value, from: "", status: "", member: "" })}>
        ${[...new Set(rows.map((row) => row.group))].map((group) => html`<optgroup key=${group} label=${group}>${rows.filter((row) => row.group === group).map((row) => html`<option key=${taskId(row)} value=${taskId(row)}>${row.task}${row.expanded ? ` (${integer(row.members)})` : ""}</option>`)}</optgroup>`)}
      </select></label>
      <${Status} status=${selected.status} />
      <${Choice} label="Members" options=${FILTERS} value=${query.status ?? ""} onChange=${(/** @type {string} */ status) => set({ status, from: "" })} />
    </div>
    ${selected.expanded && html`<div class="heat-place">${heat.value && heat.value.cells.length > 0 && html`<${HeatMap} heat=${heat.value} onChoose=${(/** @type {number} */ first) => set({ from: first, status: "" })} />`}</div>`}
    ${members.error && html`<${Failure} error=${members.error} onRetry=${members.reload} />`}
    ${!members.value && !members.error && html`<${Loading} rows=${8} />`}
    ${members.value && html`<${Page} page=${members.value} from=${from} selected=${selected} onPage=${(/** @type {number} */ at) => set({ from: at || "" })} onOpen=${(/** @type {any} */ index) => set({ member: index ?? "-" })} />`}
    ${query.member && html`<${Drawer} id=${id} row=${selected} index=${query.member} onClose=${() => set({ member: "" })} />`}
  </div>`;
}

/** The task to show first: one with failures, else the one with the most members. @param {import("../../lib/run.js").TaskRow[]} rows */
function defaultTask(rows) {
  return [...rows].sort((a, b) => Number(b.failed > 0) - Number(a.failed > 0) || (b.members ?? 0) - (a.members ?? 0))[0];
}

/** @param {{ page: any, from: number, selected: any, onPage: (from: number) => void, onOpen: (index: any) => void }} properties */
function Page({ page, from, selected, onPage, onOpen }) {
  if (!page.members.length) {
    const waiting = selected.status === "waiting";
    return html`<${Empty} title=${waiting ? "The task has not started" : "No member matches"}><p>${waiting ? "Its members are listed when it starts. The tab Why shows what it is blocked on." : "Choose another filter to see more members."}</p><//>`;
  }
  const last = page.members.at(-1).index ?? 0;
  return html`<div class="table-wrap"><table class="rows cards">
    <caption class="unseen">Members of ${selected.task}</caption>
    <thead><tr><th class="number">Index</th><th>Status</th><th class="wide">Member</th><th class="number">Attempts</th><th>Worker</th><th class="number">Took</th></tr></thead>
    <tbody>${page.members.map((/** @type {any} */ member) => html`<tr key=${member.index ?? "-"} class="clickable" onClick=${(/** @type {any} */ event) => !event.target.closest("button") && onOpen(member.index)}>
      <td data-title="Index" class="number figure">${member.index ?? "–"}</td>
      <td><${Status} status=${member.status} /></td>
      <td class="wide main-cell"><button type="button" class="link" onClick=${() => onOpen(member.index)}>${member.name}</button>
        ${member.error && html`<span class="said tone-bad">${member.error.type}: ${oneLine(member.error.message ?? "", 140)}</span>`}
        ${member.progress && !member.ended_at && html`<span class="said muted">${Math.round(100 * (member.progress.fraction ?? 0))}% ${member.progress.note ?? ""}</span>`}</td>
      <td data-title="Attempts" class="number figure">${member.attempts ?? "–"}</td>
      <td data-title="Worker"><code class="muted">${member.worker ?? "–"}</code></td>
      <td data-title="Took" class="number"><${Took} from=${member.started_at} to=${member.ended_at ?? (member.status === "running" ? null : member.started_at)} /></td>
    </tr>`)}</tbody>
  </table></div>
  <div class="pager">
    <button type="button" disabled=${from === 0} onClick=${() => onPage(Math.max(0, from - PAGE))}><${Icon} name="previous" />Previous</button>
    <span class="muted">${page.members.length === 1 ? `Member ${page.members[0].index ?? ""}` : `${integer(page.members[0].index)} to ${integer(last)}`} of ${counted(page.total, "member")}</span>
    <button type="button" disabled=${page.next_from === null || page.next_from === undefined} onClick=${() => onPage(page.next_from)}>Next<${Icon} name="next" /></button>
  </div>`;
}

/** @param {{ id: string, row: any, index: string, onClose: () => void }} properties */
function Drawer({ id, row, index, onClose }) {
  const title = index === "-" ? row.task : `${row.task} [${index}]`;
  return html`<${Dialog} kind="drawer" title=${`Member ${title}`} heading=${title} onClose=${onClose}>
    <${MemberDetails} key=${index} id=${id} group=${row.group} task=${row.task} index=${index} version=${`${row.status} ${row.completed} ${row.failed}`} />
  <//>`;
}
