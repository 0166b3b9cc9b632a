// @ts-check
/** What an open run waits for, and why. */

import { pathOf } from "../../lib/api.js";
import { integer } from "../../lib/format.js";
import { useApp, useEvery, useLoaded } from "../../lib/hooks.js";
import { format } from "../../lib/router.js";
import { Ago, Empty, Failure, Loading } from "../../ui/parts.js";
import { html } from "../../vendor/index.js";

const MOST = 200;

/** @param {{ id: string, view: any, open: boolean }} properties */
export function WhyTab({ id, view, open }) {
  const app = useApp();
  const { value, error, reload } = useLoaded((signal) => app.api.get(`v1/runs/${pathOf(id)}/why`, {}, signal), [id, view.status]);
  useEvery(open, 5000, reload);
  const heal = async () => {
    try {
      await app.api.post(`v1/runs/${pathOf(id)}/heal`);
      app.say("The owner of the session looks again at what it waits for");
      await reload();
    } catch (failure) {
      app.say(/** @type {any} */ (failure).message, "bad");
    }
  };
  if (error && !value) return html`<${Failure} error=${error} onRetry=${reload} />`;
  if (!value) return html`<${Loading} />`;
  const missing = value.missing ?? [];
  if (!missing.length) return html`<${Empty} title=${open ? "Nothing is missing" : "The run has ended"}><p>${value.reason ?? (open ? "Its last facts are on their way." : "While a run is open, this says what it waits for and why.")}</p><//>`;
  const operator = app.who.get()?.role !== "viewer" && app.who.get()?.role !== "submitter";
  return html`<div class="why">
    <div class="toolbar"><p class="grow">What the run waits for, causes first.</p>${open && operator && html`<button type="button" onClick=${heal} title="Tells again what the log lacks; changes nothing where nothing is missing">Heal</button>`}</div>
    <div class="table-wrap"><table class="rows cards">
      <caption class="unseen">Missing facts</caption>
      <thead><tr><th>Of</th><th>Members</th><th class="wide">Missing because</th><th>Since</th><th>Where</th></tr></thead>
      <tbody>${missing.slice(0, MOST).map((/** @type {any} */ each, /** @type {number} */ nth) => html`<tr key=${nth}>
        <td class="main-cell">${each.task ? html`<a href=${format(["runs", id, "graph"], { open: `${each.group}/${each.task}` })}>${each.group} / ${each.task}</a>` : each.group ?? "the run"}</td>
        <td data-title="Members" class="figure">${each.index ?? (each.count > 1 ? html`<span title=${each.indexes}>${integer(each.count)}</span>` : "–")}</td>
        <td class="wide"><strong>${String(each.fact).replaceAll("_", " ")}</strong>${each.key && html` <code>${each.key}</code>`}${each.attempt > 1 && html` attempt ${each.attempt}`}${each.lag && html` behind ${integer(each.lag)}`}
          <span class="said muted">${each.detail ? `${each.detail}. ` : ""}What to do: ${each.remedy}</span></td>
        <td data-title="Since"><${Ago} at=${each.since} />${each.until && html`<span class="said muted">due <${Ago} at=${each.until} /></span>`}</td>
        <td data-title="Where"><code class="muted">${each.worker ?? [each.topic, each.partition, each.offset].filter((part) => part !== null && part !== undefined).join("/")}</code></td>
      </tr>`)}</tbody>
    </table></div>
    ${missing.length > MOST && html`<p class="hint">and ${integer(missing.length - MOST)} more: <code>anabranch why ${id} --json</code> has all of them.</p>`}
  </div>`;
}
