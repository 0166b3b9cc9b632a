// @ts-check
/** The shared context of the run's session: its versions with their authors, and the differences between two. */

import { pathOf } from "../../lib/api.js";
import { bytes, integer } from "../../lib/format.js";
import { useApp, useEvery, useLoaded } from "../../lib/hooks.js";
import { format } from "../../lib/router.js";
import { Json } from "../../ui/json.js";
import { Ago, Choice, Empty, Failure, Loading } from "../../ui/components.js";
import { html, useState } from "../../vendor/index.js";

const MAX_LISTED = 200;
const KINDS = /** @type {Record<string, string>} */ ({ context: "set by the request", result: "result", outside: "set from outside" });

/** @param {{ id: string, view: any, open: boolean }} properties */
export function ContextTab({ id, view, open }) {
  const { api } = useApp();
  const { value, error, reload } = useLoaded((signal) => api.get(`v1/runs/${pathOf(id)}/context`, {}, signal), [id, view.status]);
  const [shown, setShown] = useState("versions");
  useEvery(open, 3000, reload);
  if (error && !value) return html`<${Failure} error=${error} onRetry=${reload} />`;
  if (!value) return html`<${Loading} />`;
  if (!value.versions?.length) return html`<${Empty} title="The context is empty"><p>A request sets its first values with <code>context</code>; each result is added when its task ends.</p><//>`;
  return html`<div class="context">
    <div class="toolbar">
      <${Choice} label="Show" value=${shown} onChange=${setShown} options=${[{ value: "versions", label: "Versions", count: value.last }, { value: "state", label: "Keys", count: Object.keys(value.state).length }, { value: "diff", label: "Compare" }]} />
      <span class="muted">Session <code>${value.session_id}</code></span>
    </div>
    ${shown === "versions" && html`<${Versions} context=${value} id=${id} />`}
    ${shown === "state" && html`<${State} state=${value.state} />`}
    ${shown === "diff" && html`<${Compare} id=${id} context=${value} />`}
  </div>`;
}

/** @param {{ context: any, id: string }} properties */
function Versions({ context, id }) {
  const [limit, setLimit] = useState(MAX_LISTED);
  const versions = [...context.versions].reverse();
  return html`<div class="table-wrap"><table class="rows cards">
    <caption class="unseen">Versions of the context, the latest first</caption>
    <thead><tr><th class="number">Version</th><th class="wide">Key</th><th>Written by</th><th>When</th><th class="number">Size</th></tr></thead>
    <tbody>${versions.slice(0, limit).map((each) => html`<tr key=${each.version}>
      <td data-title="Version" class="number figure">${each.version}</td>
      <td class="wide main-cell"><details><summary><code>${each.key}</code>${each.policy && html` <span class="tag">${each.policy}</span>`}</summary><${Json} value=${each.value} label=${`value of ${each.key}`} /></details></td>
      <td data-title="Written by">${each.writers?.length ? each.writers.join(", ") : each.task ? html`<a href=${format(["runs", each.run_id, "graph"], { open: `${each.group}/${each.task}` })}>${each.group} / ${each.task}</a>` : KINDS[each.kind] ?? each.kind}${each.run_id !== id && html` <span class="muted">of another run</span>`}</td>
      <td data-title="When"><${Ago} at=${each.time} /></td>
      <td data-title="Size" class="number">${bytes(each.bytes)}</td>
    </tr>`)}</tbody>
  </table>
  ${versions.length > limit && html`<button type="button" onClick=${() => setLimit(limit + 1000)}>Show more of ${integer(versions.length)}</button>`}
  ${context.dropped > 0 && html`<p class="hint">${integer(context.dropped)} older versions are no longer kept.</p>`}</div>`;
}

/** @param {{ state: Record<string, { value: any, version: number }> }} properties */
const State = ({ state }) => html`<div class="keys-list">${Object.entries(state).slice(0, MAX_LISTED).map(([key, entry]) => html`<details key=${key}><summary><code>${key}</code><span class="muted">version ${entry.version}</span></summary><${Json} value=${entry.value} label=${`value of ${key}`} /></details>`)}</div>`;

/** @param {{ id: string, context: any }} properties */
function Compare({ id, context }) {
  const { api } = useApp();
  const numbers = [context.dropped, ...context.versions.map((/** @type {any} */ each) => each.version)];
  const [a, setA] = useState(numbers[0]);
  const [b, setB] = useState(numbers.at(-1));
  const { value, error, reload } = useLoaded((signal) => api.get(`v1/runs/${pathOf(id)}/context/diff`, { a, b }, signal), [id, a, b]);
  const differences = Array.isArray(value) ? value : value?.differences ?? value?.diff ?? [];
  const choose = (/** @type {string} */ label, /** @type {number} */ current, /** @type {(value: number) => void} */ set) => html`<label class="field">${label} <select value=${current} onChange=${(/** @type {any} */ event) => set(Number(event.target.value))}>${numbers.map((each) => html`<option key=${each} value=${each}>${each === 0 ? "0 (empty)" : each}</option>`)}</select></label>`;
  return html`<div>
    <div class="toolbar">${choose("From version", a, setA)}${choose("to", b, setB)}</div>
    ${error && html`<${Failure} error=${error} onRetry=${reload} />`}
    ${value && differences.length === 0 && html`<${Empty} title="No difference"><p>Both versions have the same values.</p><//>`}
    ${differences.map((/** @type {any} */ each) => html`<section class="difference" key=${each.key} aria-label=${each.key}>
      <h3><span class=${`change is-${each.change}`}>${each.change}</span> <code>${each.key}</code> <span class="muted">in ${each.versions.length === 1 ? "version" : "versions"} ${each.versions.join(", ")}</span></h3>
      <div class="sides">${each.change !== "added" && html`<${Json} value=${each.before} label=${`before: ${each.key}`} />`}${each.change !== "removed" && html`<${Json} value=${each.after} label=${`after: ${each.key}`} />`}</div>
    </section>`)}
  </div>`;
}
