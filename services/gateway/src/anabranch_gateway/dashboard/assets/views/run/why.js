// @ts-check
/** Why an open run has not ended: what it is blocked on. */

import { pathOf } from "../../lib/api.js";
import { integer } from "../../lib/format.js";
import { useApp, useEvery, useLoaded } from "../../lib/hooks.js";
import { format } from "../../lib/router.js";
import { Ago, Empty, Failure, Loading } from "../../ui/components.js";
import { html } from "../../vendor/index.js";

const MAX_ROWS = 200;

/** @param {{ id: string, view: any, open: boolean }} properties */
export function WhyTab({ id, view, open }) {
  const app = useApp();
  const { value, error, reload } = useLoaded((signal) => app.api.get(`v1/runs/${pathOf(id)}/why`, {}, signal), [id, view.status]);
  useEvery(open, 5000, reload);
  const heal = async () => {
    try {
      await app.api.post(`v1/runs/${pathOf(id)}/heal`);
      app.notify("The owners of the run re-send its pending work");
      await reload();
    } catch (failure) {
      app.notify(/** @type {any} */ (failure).message, "bad");
    }
  };
  if (error && !value) return html`<${Failure} error=${error} onRetry=${reload} />`;
  if (!value) return html`<${Loading} />`;
  const missing = value.missing ?? [];
  if (!missing.length) return html`<${Empty} title=${open ? "Nothing is missing" : "The run has ended"}><p>${value.reason ?? (open ? "Its last events are being processed." : "For an open run this tab shows what it is blocked on, and why.")}</p><//>`;
  const operator = app.caller.get()?.role !== "viewer" && app.caller.get()?.role !== "submitter";
  return html`<div class="why">
    <div class="toolbar"><p class="grow">What the run is blocked on, causes first.</p>${open && operator && html`<button type="button" onClick=${heal} title="Publishes again the records and offers that are missing. Safe to repeat: if nothing is missing, nothing changes.">Re-send pending work</button>`}</div>
    <div class="table-wrap"><table class="rows cards">
      <caption class="unseen">Blocked on</caption>
      <thead><tr><th>Task</th><th>Members</th><th class="wide">Reason</th><th>Since</th><th>Log position</th></tr></thead>
      <tbody>${missing.slice(0, MAX_ROWS).map((/** @type {any} */ each, /** @type {number} */ nth) => html`<tr key=${nth}>
        <td class="main-cell">${each.task ? html`<a href=${format(["runs", id, "graph"], { open: `${each.group}/${each.task}` })}>${each.group} / ${each.task}</a>` : each.group ?? "the run"}</td>
        <td data-title="Members" class="figure">${each.index ?? (each.count > 1 ? html`<span title=${each.indexes}>${integer(each.count)}</span>` : "–")}</td>
        <td class="wide"><strong>${String(each.fact).replaceAll("_", " ")}</strong>${each.key && html` <code>${each.key}</code>`}${each.attempt > 1 && html` attempt ${each.attempt}`}${each.lag && html` behind ${integer(each.lag)}`}
          <span class="said muted">${each.detail ? `${each.detail}. ` : ""}What to do: ${each.remedy}</span></td>
        <td data-title="Since"><${Ago} at=${each.since} />${each.until && html`<span class="said muted">due <${Ago} at=${each.until} /></span>`}</td>
        <td data-title="Log position"><code class="muted">${each.worker ?? [each.topic, each.partition, each.offset].filter((part) => part !== null && part !== undefined).join("/")}</code></td>
      </tr>`)}</tbody>
    </table></div>
    ${missing.length > MAX_ROWS && html`<p class="hint">and ${integer(missing.length - MAX_ROWS)} more: <code>anabranch why ${id} --json</code> has all of them.</p>`}
  </div>`;
}
