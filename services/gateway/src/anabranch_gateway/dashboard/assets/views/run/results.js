// @ts-check
/** The results of the run: all keys, the value of the selected one, long lists in pages. */

import { pathOf } from "../../lib/api.js";
import { bytes, counted, integer } from "../../lib/format.js";
import { useApp, useLoaded } from "../../lib/hooks.js";
import { format, go } from "../../lib/router.js";
import { StatusIcon, Icon } from "../../ui/icons.js";
import { Json } from "../../ui/json.js";
import { Copy, Empty, Failure, Loading } from "../../ui/components.js";
import { html, useMemo, useState } from "../../vendor/index.js";

const PAGE = 100;
const MAX_LISTED = 300;

/** @param {{ id: string, view: any, graph: any, open: boolean, query: Record<string, string> }} properties `graph`: the result of `useLoaded` */
export function ResultsTab({ id, view, graph: { value: graph, error, reload }, open, query }) {
  const [find, setFind] = useState("");
  const keys = useMemo(() => keysOf(graph, view), [graph, view]);
  if (error && !graph) return html`<${Failure} error=${error} onRetry=${reload} />`;
  if (!graph) return html`<${Loading} />`;
  const shown = keys.filter(({ key, task }) => `${key} ${task}`.toLowerCase().includes(find.trim().toLowerCase()));
  const selected = keys.find(({ key }) => key === query.key) ?? null;
  return html`<div class="split">
    <div class="split-list">
      <div class="search"><${Icon} name="search" /><input type="search" data-search aria-label="Find results" placeholder=${`Find in ${counted(keys.length, "result")}`} value=${find} onInput=${(/** @type {any} */ event) => setFind(event.target.value)} /></div>
      <ul>${shown.slice(0, MAX_LISTED).map(({ key, task, status }) => html`<li key=${key}><a href=${format(["runs", id, "results"], { key })} aria-current=${selected?.key === key ? "true" : undefined} onClick=${(/** @type {Event} */ event) => (event.preventDefault(), go(format(["runs", id, "results"], { key }), { replace: true }))}><${StatusIcon} status=${status} size=${14} /><span><code>${key}</code><span class="muted">${task}</span></span></a></li>`)}</ul>
      ${shown.length > MAX_LISTED && html`<p class="hint">The first ${MAX_LISTED} of ${integer(shown.length)}: search for more.</p>`}
    </div>
    <div class="split-detail">${selected ? html`<${Value} key=${selected.key} id=${id} selected=${selected} open=${open} />` : html`<${Empty} title=${keys.length ? "Choose a result" : "No results"}><p>${keys.length ? "Its value is shown here; a long list in pages." : "The tasks of this run have no result keys."}</p><//>`}</div>
  </div>`;
}

/** @param {any} graph @param {any} view */
function keysOf(graph, view) {
  return (graph?.nodes ?? []).flatMap((/** @type {any} */ node) => {
    const status = view.groups?.[node.group]?.tasks?.[node.task]?.status ?? node.status;
    return (node.result_keys ?? []).map((/** @type {string} */ key) => ({ key, task: node.task, status }));
  });
}

/** @param {{ id: string, selected: any, open: boolean }} properties */
function Value({ id, selected, open }) {
  const { api } = useApp();
  const [from, setFrom] = useState(0);
  const { value, error, reload, isLoading } = useLoaded((signal) => api.get(`v1/runs/${pathOf(id)}/results/${pathOf(selected.key)}`, { from, limit: PAGE }, signal), [selected.key, selected.status, from, open]);
  const isOpen = error?.problem?.code === "run_open";
  return html`<section aria-label=${`Result ${selected.key}`}>
    <div class="value-head"><h2><code>${selected.key}</code></h2><${Copy} text=${selected.key} label="the key" />
      ${value && html`<span class="muted">${bytes(value.bytes)}${value.items ? `, ${counted(value.count, "item")}` : ""}</span>`}</div>
    ${isOpen && html`<${Empty} title="Shown when the run has ended"><p>Until then each result is on the results topic and in Redis as soon as its task ends.</p><//>`}
    ${error && !isOpen && html`<${Failure} error=${error} onRetry=${reload} />`}
    ${!value && isLoading && html`<${Loading} rows=${4} />`}
    ${value && !error && html`<${Json} value=${value.items ?? value.value} label=${`value of ${selected.key}`} />`}
    ${value?.items && html`<div class="pager">
      <button type="button" disabled=${from === 0} onClick=${() => setFrom(Math.max(0, from - PAGE))}><${Icon} name="previous" />Previous</button>
      <span class="muted">${integer(value.from)} to ${integer(value.from + value.items.length - 1)} of ${integer(value.count)}</span>
      <button type="button" disabled=${value.next_from === null} onClick=${() => setFrom(value.next_from)}>Next<${Icon} name="next" /></button>
    </div>`}
  </section>`;
}
