// @ts-check
/** One member: inputs, result, attempts, errors, logs. */

import { pathOf } from "../../lib/api.js";
import { bytes, integer, used } from "../../lib/format.js";
import { useApp, useLoaded } from "../../lib/hooks.js";
import { duration } from "../../lib/time.js";
import { Ago, Details, Failure, Loading, Status, Took } from "../../ui/components.js";
import { Json } from "../../ui/json.js";
import { LogLines } from "../../ui/loglines.js";
import { Traceback } from "../../ui/traceback.js";
import { format } from "../../lib/router.js";
import { html } from "../../vendor/index.js";

/** @param {{ id: string, group: string, task: string, index: string, version: string }} properties `version`: the member is loaded again when it changes */
export function MemberDetails({ id, group, task, index, version }) {
  const { api } = useApp();
  const { value: member, error, reload } = useLoaded((signal) => api.get(`v1/runs/${pathOf(id)}/members/${pathOf(group, task, index)}`, {}, signal), [id, group, task, index, version]);
  if (error && !member) return html`<${Failure} error=${error} onRetry=${reload} />`;
  if (!member) return html`<${Loading} rows=${5} />`;
  const attempts = member.attempts_log ?? [];
  return html`<div class="member">
    <${Details} items=${[
      ["Member", html`<code>${member.name}</code>`],
      ["Status", html`<${Status} status=${member.status} />`],
      ["Started", member.started_at && html`<${Ago} at=${member.started_at} />`],
      ["Took", member.started_at && html`<${Took} from=${member.started_at} to=${member.ended_at ?? (member.status === "running" ? null : member.started_at)} />`],
      ["Attempts", member.attempts],
      ["Worker", member.worker && html`<code>${member.worker}</code>`],
      ["Progress", member.progress && `${Math.round(100 * (member.progress.fraction ?? 0))}% ${member.progress.note ?? ""}`],
    ]} />
    ${member.error && html`<h3>Error</h3><div class="error-box"><strong>${member.error.type}</strong><pre tabindex="0">${member.error.message}</pre></div><${Traceback} text=${member.error.traceback} />`}
    <${Section} title="Message" value=${member.message} text />
    <${Section} title="Variables" value=${member.variables} />
    <${Section} title="Inputs" value=${member.inputs} />
    ${!onlyNull(member.result) && html`<${Section} title="Result" value=${member.result} />`}
    ${attempts.length > 0 && html`<h3>Attempts</h3><ol class="attempts">${attempts.map((/** @type {any} */ each) => html`<li key=${each.attempt}>
      <span class="attempt-head"><strong>Attempt ${each.attempt}</strong> <${Status} status=${each.error ? "failed" : each.ended_at ? "completed" : "running"} /> ${each.started_at && html`<${Ago} at=${each.started_at} />`} <${Took} from=${each.started_at} to=${each.ended_at} /> ${each.worker && html`<code class="muted">${each.worker}</code>`} ${each.cpu_seconds != null && html`<span class="muted">${duration(each.cpu_seconds)} processor${each.peak_memory_bytes ? `, ${bytes(each.peak_memory_bytes)} memory` : ""}</span>`} ${each.usd !== undefined && html`<span>used ${used(each)}</span>`} ${each.cached_from && html`<span>value of <a href=${format(["runs", each.cached_from.run_id, "graph"])}>${each.cached_from.group}/${each.cached_from.task}</a>, from the cache</span>`}</span>
      ${each.error && html`<span class="said"><code>${each.error.type}</code> ${each.error.message}</span>${each.error.traceback !== member.error?.traceback && html`<${Traceback} text=${each.error.traceback} />`}`}
    </li>`)}</ol>`}
    <h3>Logs</h3>
    ${member.logs_left_out > 0 && html`<p class="muted">The last ${integer(member.logs.length)} lines; ${integer(member.logs_left_out)} older lines are omitted.</p>`}
    ${member.logs?.length > 0 ? html`<${LogLines} lines=${member.logs} />` : html`<p class="muted">No lines. Agents write them with <code>task.log</code>.</p>`}
  </div>`;
}

/** True if a member returned no value: the result then has null for each key. @param {any} result */
const onlyNull = (result) => !result || Object.values(result).every((value) => value === null);

/** @param {{ title: string, value: any, text?: boolean }} properties */
function Section({ title, value, text = false }) {
  if (value === null || value === undefined || (typeof value === "object" && Object.keys(value).length === 0 && !Array.isArray(value))) return null;
  return html`<h3>${title}</h3>${text && typeof value === "string" ? html`<pre class="text" tabindex="0">${value}</pre>` : html`<${Json} value=${value} label=${title.toLowerCase()} />`}`;
}
