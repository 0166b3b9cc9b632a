// @ts-check
/** The runs that the caller may see, the latest first, live. */

import { counted } from "../lib/format.js";
import { useApp, useCoalesced, useEvery, useKeys, useLoaded, useStream, useTitle } from "../lib/hooks.js";
import { format, go } from "../lib/router.js";
import { RUN_STATUSES, isOpen, appearanceOf, shownStatus } from "../lib/status.js";
import { Icon } from "../ui/icons.js";
import { Ago, Choice, Command, Empty, Failure, Id, Loading, Progress, Status, Took } from "../ui/components.js";
import { html, useEffect, useRef, useState } from "../vendor/index.js";

const PAGE = 50;

/**
 * Converts the search text into filters of the API: `label:k=v`, `session:…`, else a part of the name or the beginning of an id. Pure.
 * @param {string} text
 */
export function searchFilters(text) {
  /** @type {Record<string, string>} */
  const filters = {};
  const words = [];
  for (const word of text.trim().split(/\s+/).filter(Boolean)) {
    const [, kind, value] = /^(label|session|project):(.+)$/.exec(word) ?? [];
    if (kind === "label") filters.label = value.replace("=", ":");
    else if (kind === "session") filters.session_id = value;
    else if (kind === "project") filters.project = value;
    else words.push(word);
  }
  if (words.length) filters.q = words.join(" ");
  return filters;
}

/** @param {{ query: Record<string, string> }} properties */
export function Runs({ query }) {
  const { api } = useApp();
  useTitle("Runs");
  const [cursors, setCursors] = useState(/** @type {string[]} */ ([]));
  const filters = { status: query.status, ...searchFilters(query.q ?? "") };
  useEffect(() => setCursors([]), [query.status, query.q]);
  const cursor = cursors.at(-1);
  const { value, error, isLoading, reload } = useLoaded(
    (signal) => api.get("v1/runs", { ...filters, limit: PAGE, cursor }, signal),
    [filters, cursor],
  );
  const reloadSoon = useCoalesced(() => void reload(), 700);
  useStream({ path: "v1/events" }, reloadSoon);
  const runs = value?.runs ?? [];
  // The stream reports changes of statuses only; counts of open runs change in between.
  useEvery(runs.some((/** @type {any} */ run) => isOpen(run.status)) || error?.status === 0, 2000, reload);
  const filtered = Boolean(query.q || query.status);

  return html`<div class="page">
    <div class="page-head"><h1>Runs</h1><a class="button primary" href="#/submit"><${Icon} name="plus" />New run</a></div>
    <${Filters} query=${query} />
    ${error && html`<${Failure} error=${error} onRetry=${reload} />`}
    ${!value && isLoading && html`<${Loading} rows=${10} />`}
    ${value && runs.length > 0 && html`<${Table} runs=${runs} />`}
    ${value && runs.length === 0 && !error && (filtered ? html`<${NothingFound} />` : html`<${FirstRun} />`)}
    ${value && (cursors.length > 0 || value.next_cursor) && html`<div class="pager">
      <button type="button" disabled=${!cursors.length} onClick=${() => setCursors(cursors.slice(0, -1))}><${Icon} name="previous" />Newer</button>
      <button type="button" disabled=${!value.next_cursor} onClick=${() => setCursors([...cursors, value.next_cursor])}>Older<${Icon} name="next" /></button>
    </div>`}
  </div>`;
}

/** @param {{ query: Record<string, string> }} properties */
function Filters({ query }) {
  const [text, setText] = useState(query.q ?? "");
  const sent = useRef(query.q ?? "");
  // The field takes the URL's text only if it did not write it: a user who is still typing must not lose characters.
  useEffect(() => {
    if ((query.q ?? "") !== sent.current) setText(query.q ?? "");
    sent.current = query.q ?? "";
  }, [query.q]);
  const set = (/** @type {Record<string, string>} */ change) => go(format(["runs"], { ...query, ...change }), { replace: true });
  const applySoon = useCoalesced(() => {
    sent.current = text;
    set({ q: text });
  }, 250);
  const options = [{ value: "", label: "All" }, ...RUN_STATUSES.map((status) => ({ value: status, label: appearanceOf(status).label }))];
  return html`<div class="filters">
    <div class="search"><${Icon} name="search" />
      <input type="search" data-search aria-label="Search runs" placeholder="Name, id, label:team=core" value=${text}
        onInput=${(/** @type {any} */ event) => (setText(event.target.value), applySoon())} /></div>
    <${Choice} label="Status" options=${options} value=${query.status ?? ""} onChange=${(/** @type {string} */ status) => set({ status })} />
  </div>`;
}

/** @param {{ runs: any[] }} properties */
function Table({ runs }) {
  const body = useRef(/** @type {HTMLElement | null} */ (null));
  const step = (/** @type {number} */ by) => {
    const links = /** @type {HTMLElement[]} */ ([...(body.current?.querySelectorAll("a.row-link") ?? [])]);
    const at = links.findIndex((link) => link === document.activeElement);
    links[Math.max(0, Math.min(links.length - 1, at < 0 ? 0 : at + by))]?.focus();
  };
  useKeys({ j: () => step(1), k: () => step(-1) });
  return html`<div class="table-wrap"><table class="rows cards">
    <caption class="unseen">${counted(runs.length, "run")}, the latest first</caption>
    <thead><tr><th>Status</th><th class="wide">Name</th><th>Progress</th><th class="number">Tasks</th><th>Submitted</th><th class="number">Took</th><th>Run</th></tr></thead>
    <tbody ref=${body}>${runs.map((run) => html`<${Row} key=${run.run_id} run=${run} />`)}</tbody>
  </table></div>`;
}

/** @param {{ run: any }} properties */
function Row({ run }) {
  const href = format(["runs", run.run_id]);
  const labels = Object.entries(run.labels ?? {});
  const open = (/** @type {MouseEvent} */ event) => {
    if (event.target instanceof Element && !event.target.closest("a, button") && !getSelection()?.toString()) go(href);
  };
  return html`<tr onClick=${open} class="clickable">
    <td><${Status} status=${shownStatus(run)} /></td>
    <td class="wide main-cell"><a class="row-link" href=${href}>${run.name || html`<span class="muted">no name</span>`}</a>
      ${run.waits_for && html`<span class="said tone-late">waiting: ${run.waits_for}</span>`}
      ${labels.slice(0, 3).map(([name, text]) => html`<span class="tag" key=${name}>${name}: ${text}</span>`)}</td>
    <td><${Progress} counts=${run.counts ?? {}} open=${isOpen(run.status)} /></td>
    <td data-title="Tasks" class="number figure">${run.counts?.tasks ?? "–"}</td>
    <td data-title="Submitted"><${Ago} at=${run.submitted_at} /></td>
    <td data-title="Took" class="number"><${Took} from=${run.started_at ?? run.submitted_at} to=${run.ended_at} /></td>
    <td><${Id} id=${run.run_id} label="run id" /></td>
  </tr>`;
}

const NothingFound = () => html`<${Empty} title="No run matches">
  <p>Search by a part of the name, the beginning of an id, <code>label:name=value</code> or <code>session:id</code>.</p>
  <p><a href="#/runs">Show all runs</a></p>
<//>`;

function FirstRun() {
  const body = `{"name": "first", "task_groups": [{"name": "hello", "tasks": [{"name": "greet", "agent": "echo", "message_template": "hello, river", "result_keys": ["greeting"]}]}]}`;
  const url = new URL("v1/runs", document.baseURI);
  return html`<${Empty} title="No runs yet">
    <p>Send a request to the gateway; the run appears here as it starts:</p>
    <${Command} text=${`curl -X POST ${url} \\\n  -H 'content-type: application/json' \\\n  -d '${body}'`} />
    <p>Or <a href="#/submit">write one here</a> with a preview of its plan, or publish a record on the requests topic.</p>
  <//>`;
}
