// @ts-check
/** Dead letters, grouped by failure: show, redrive and dismiss them. */

import { pathOf } from "../lib/api.js";
import { counted, integer, oneLine } from "../lib/format.js";
import { useApp, useEvery, useLoaded, useStream, useTitle } from "../lib/hooks.js";
import { format, go } from "../lib/router.js";
import { Dialog } from "../ui/dialog.js";
import { Json } from "../ui/json.js";
import { Ago, Choice, Empty, Details, Failure, Id, Loading } from "../ui/components.js";
import { Traceback } from "../ui/traceback.js";
import { html, useState } from "../vendor/index.js";

const MAX_LISTED = 50;
const STATES = [{ value: "", label: "Open" }, { value: "all", label: "All" }];

/** @param {{ query: Record<string, string> }} properties */
export function DeadLetters({ query }) {
  const app = useApp();
  useTitle("Dead letters");
  const { value, error, reload } = useLoaded((signal) => app.api.get("v1/dead-letters/groups", { state: query.state === "all" ? "all" : "open" }, signal), [query.state]);
  useEvery(true, 5000, reload);
  useStream(null, () => undefined);
  const set = (/** @type {Record<string, string>} */ change) => go(format(["dead-letters"], { ...query, ...change }), { replace: true });
  const groups = value?.groups ?? [];

  const decide = async (/** @type {"redrive" | "dismiss"} */ action, /** @type {any} */ which, /** @type {number} */ count) => {
    const text = action === "redrive"
      ? "Rejected requests are sent again unchanged. Held members run again in their run, which is still open."
      : "They are marked as dismissed. Held members count as failed, and their run continues.";
    const title = `${action === "redrive" ? "Redrive" : "Dismiss"} ${counted(count, "dead letter")}?`;
    if (!(await app.confirm({ title, text, action: action === "redrive" ? "Redrive" : "Dismiss", dangerous: action === "dismiss" }))) return;
    try {
      const response = await app.api.post(`v1/dead-letters/${action}`, which);
      const refused = response?.refused?.length ?? 0;
      const done = count - refused;
      app.notify(`${action === "redrive" ? "Redriven" : "Dismissed"}: ${integer(done)}${refused ? `. Refused: ${integer(refused)} (${refusalOf(response)})` : ""}`, refused ? "bad" : "good");
      set({ letter: "" });
      await reload();
    } catch (failure) {
      app.notify(/** @type {any} */ (failure).message, "bad");
    }
  };

  return html`<div class="page">
    <div class="page-head"><h1>Dead letters</h1><${Choice} label="State" options=${STATES} value=${query.state ?? ""} onChange=${(/** @type {string} */ state) => set({ state })} /></div>
    <p class="lead">Failed members and rejected requests, grouped by error.</p>
    ${error && html`<${Failure} error=${error} onRetry=${reload} />`}
    ${!value && !error && html`<${Loading} rows=${4} />`}
    ${value && groups.length === 0 && html`<${Empty} title="No dead letters"><p>Rejected requests and failed members appear here. Members of tasks with <code>on_failure: hold</code> wait for a redrive or dismissal.</p><//>`}
    ${groups.map((/** @type {any} */ group) => html`<${Group} key=${group.signature} group=${group} state=${query.state === "all" ? "all" : "open"} onShow=${(/** @type {string} */ letter) => set({ letter })} onDecide=${decide} />`)}
    ${query.letter && html`<${DeadLetter} id=${query.letter} onClose=${() => set({ letter: "" })} onDecide=${decide} />`}
  </div>`;
}

/** @param {any} response */
const refusalOf = (response) => {
  const first = response.refused[0];
  return first?.reason ?? first?.why ?? (Array.isArray(first) ? first[1] : "");
};

/** @param {{ group: any, state: string, onShow: (id: string) => void, onDecide: any }} properties */
function Group({ group, state, onShow, onDecide }) {
  const [open, setOpen] = useState(false);
  return html`<section class="card letter-group" aria-label=${`Dead letters ${group.signature}`}>
    <header>
      <div class="grow">
        <h2>${group.agent && html`<code>${group.agent}</code> `}${oneLine(group.error ?? group.code, 160)}</h2>
        <p class="muted"><strong class="figure">${counted(group.count, "failure")}</strong>${group.held > 0 && html`, <span class="tone-held">${integer(group.held)} held</span>`} · <code>${group.code}</code> · last <${Ago} at=${group.last} />, first <${Ago} at=${group.first} /></p>
      </div>
      <div class="actions">
        ${group.redrivable > 0 && html`<button type="button" onClick=${() => onDecide("redrive", { signature: group.signature }, group.count)}>Redrive ${group.count === 1 ? "it" : group.redrivable === group.count ? "all" : integer(group.redrivable)}</button>`}
        <button type="button" class="dangerous" onClick=${() => onDecide("dismiss", { signature: group.signature }, group.count)}>Dismiss ${group.count === 1 ? "it" : "all"}</button>
      </div>
    </header>
    <details onToggle=${(/** @type {any} */ event) => setOpen(event.target.open)}><summary>${group.count === 1 ? "Show it" : `Show the ${counted(group.count, "failure")}`}</summary>${open && html`<${Listed} group=${group} state=${state} onShow=${onShow} />`}</details>
    ${group.runs?.length > 0 && html`<p class="muted">${group.runs.length === 1 ? "Run" : "Runs"} ${group.runs.slice(0, 3).map((/** @type {string} */ run) => html`<a key=${run} href=${format(["runs", run])}>${run.slice(0, 13)}…</a> `)}${group.runs.length > 3 && html`and ${integer(group.runs.length - 3)} more`}</p>`}
  </section>`;
}

/** The dead letters of a group, the latest first. @param {{ group: any, state: string, onShow: (id: string) => void }} properties */
function Listed({ group, state, onShow }) {
  const { api } = useApp();
  const { value, error, reload } = useLoaded((signal) => api.get("v1/dead-letters", { signature: group.signature, state, limit: MAX_LISTED }, signal), [group.signature, group.count, state]);
  if (error) return html`<${Failure} error=${error} onRetry=${reload} />`;
  if (!value) return html`<${Loading} rows=${3} />`;
  return html`<table class="rows cards"><caption class="unseen">Dead letters, the latest first</caption>
    <thead><tr><th>Id</th><th>State</th><th class="wide">Task</th><th>Received</th></tr></thead>
    <tbody>${value.letters.map((/** @type {any} */ deadLetter) => html`<tr key=${deadLetter.id}>
      <td class="main-cell"><button type="button" class="link" onClick=${() => onShow(deadLetter.id)}><code class="nowrap">${deadLetter.id}</code></button></td>
      <td data-title="State">${deadLetter.state}</td>
      <td class="wide">${deadLetter.member ? memberOf(deadLetter.member) : deadLetter.origin && html`<code>${deadLetter.origin}</code>`}<span class="said muted">${oneLine(deadLetter.error ?? "", 120)}</span></td>
      <td data-title="Received"><${Ago} at=${deadLetter.time} /></td></tr>`)}</tbody></table>
    ${value.next_cursor && html`<p class="hint">The latest ${MAX_LISTED} of ${integer(group.count)}.</p>`}`;
}

/** @param {any} member */
const memberOf = (member) => `${member.group} / ${member.task}${member.index === null || member.index === undefined ? "" : ` [${member.index}]`}`;

/** @param {{ id: string, onClose: () => void, onDecide: any }} properties */
function DeadLetter({ id, onClose, onDecide }) {
  const { api } = useApp();
  const { value: deadLetter, error, reload } = useLoaded((signal) => api.get(`v1/dead-letters/${pathOf(id)}`, {}, signal), [id]);
  const footer = deadLetter && deadLetter.state === "open" && html`
    <button type="button" class="dangerous" onClick=${() => onDecide("dismiss", { ids: [id] }, 1)}>Dismiss</button>
    ${!deadLetter.redrive_refused && html`<button type="button" class="primary" onClick=${() => onDecide("redrive", { ids: [id] }, 1)}>Redrive</button>`}`;
  return html`<${Dialog} kind="drawer" title=${`Dead letter ${id}`} onClose=${onClose} footer=${footer}>
    ${error && html`<${Failure} error=${error} onRetry=${reload} />`}
    ${!deadLetter && !error && html`<${Loading} />`}
    ${deadLetter && html`
      <${Details} items=${[
        ["State", deadLetter.state],
        ["Cannot redrive", deadLetter.state === "open" && deadLetter.redrive_refused],
        ["Received", html`<${Ago} at=${deadLetter.time} />`],
        ["Code", html`<code>${deadLetter.code}</code>`],
        ["Signature", html`<${Id} id=${deadLetter.signature} label="the signature" />`],
        ["Origin", deadLetter.origin && html`<code>${typeof deadLetter.origin === "string" ? deadLetter.origin : JSON.stringify(deadLetter.origin)}</code>`],
        ["Run", deadLetter.run_id && html`<a href=${format(["runs", deadLetter.run_id])}>${deadLetter.run_id}</a>`],
        ["Size", deadLetter.bytes !== undefined && `${integer(deadLetter.bytes)} bytes${deadLetter.is_cut ? ", truncated" : ""}`],
      ]} />
      <h3>Error</h3><div class="error-box"><pre tabindex="0">${deadLetter.error}</pre></div><${Traceback} text=${deadLetter.member?.traceback} />
      ${deadLetter.member && html`<h3>Member</h3><${Json} value=${{ ...deadLetter.member, traceback: undefined }} label="member" />`}
      <h3>Original record</h3><${Json} value=${parsed(deadLetter.value)} label="the original record" />
      ${deadLetter.headers?.length > 0 && html`<h3>Headers</h3><${Json} value=${Object.fromEntries(deadLetter.headers)} label="headers" />`}`}
  <//>`;
}

/** @param {unknown} value */
function parsed(value) {
  if (typeof value !== "string") return value;
  try {
    return JSON.parse(value);
  } catch {
    return value;
  }
}
