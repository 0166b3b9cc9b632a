// @ts-check
/** What the run's agents have written with `task.log`, live. */

import { pathOf } from "../../lib/api.js";
import { counted, integer } from "../../lib/format.js";
import { useApp, useEvery } from "../../lib/hooks.js";
import { taskId, taskRows } from "../../lib/run.js";
import { Choice, Empty, Failure } from "../../ui/parts.js";
import { LogLine } from "../../ui/loglines.js";
import { Virtual } from "../../ui/virtual.js";
import { html, useEffect, useRef, useState } from "../../vendor/index.js";

const MOST = 5000;
const PAGE = 1000;
const LEVELS = [{ value: "", label: "All" }, { value: "warning", label: "Warnings" }, { value: "error", label: "Errors" }];

const EMPTY = { lines: /** @type {any[]} */ ([]), left: 0, error: /** @type {any} */ (null), read: false };

/**
 * The lines that are kept after more came, and how many older ones were left out. Pure.
 * @param {{ lines: any[], left: number }} before
 * @param {any[]} more
 */
export function withLines(before, more) {
  const all = more.length ? [...before.lines, ...more] : before.lines;
  return { lines: all.length > MOST ? all.slice(-MOST) : all, left: before.left + Math.max(0, all.length - MOST) };
}

/** @param {{ lines: any[], left: number }} state */
export const linesSaid = ({ lines, left }) =>
  left > 0 ? `the last ${integer(lines.length)} of ${integer(lines.length + left)} lines; ${integer(left)} older ones are omitted: see anabranch logs` : counted(lines.length, "line");

/** @param {{ id: string, view: any, open: boolean }} properties */
export function LogsTab({ id, view, open }) {
  const { api } = useApp();
  const [level, setLevel] = useState("");
  const [task, setTask] = useState("");
  const [state, setState] = useState(/** @type {{ lines: any[], left: number, error: any, read: boolean }} */ (EMPTY));
  const place = useRef(/** @type {{ after: string | null, key: string }} */ ({ after: null, key: "" }));
  const rows = taskRows(view);
  const key = `${id} ${level} ${task}`;
  const more = async () => {
    const chosen = rows.find((row) => taskId(row) === task);
    try {
      for (;;) {
        const answer = await api.get(`v1/runs/${pathOf(id)}/logs`, { level, group: chosen?.group, task: chosen?.task, after: place.current.after, limit: PAGE });
        if (place.current.key !== key) return;
        place.current.after = answer.next_after ?? place.current.after;
        setState((before) => ({ ...withLines(before, answer.logs), error: null, read: true }));
        if (answer.logs.length < PAGE) return;
      }
    } catch (error) {
      if (place.current.key === key) setState((before) => ({ ...before, error, read: true }));
    }
  };
  useEffect(() => {
    place.current = { after: null, key };
    setState(EMPTY);
    void more();
  }, [key]);
  useEvery(open && !state.error, 1500, more);
  const ended = useRef(open);
  useEffect(() => {
    if (ended.current && !open) void more();
    ended.current = open;
  }, [open]);

  return html`<div class="logs">
    <div class="toolbar">
      <${Choice} label="Level" options=${LEVELS} value=${level} onChange=${setLevel} />
      <label class="field">Task <select value=${task} onChange=${(/** @type {any} */ event) => setTask(event.target.value)}><option value="">all</option>${rows.map((row) => html`<option key=${taskId(row)} value=${taskId(row)}>${row.task}</option>`)}</select></label>
      <span class="muted" role="status">${state.read ? linesSaid(state) : "Reading"}</span>
    </div>
    ${state.error && html`<${Failure} error=${state.error} onRetry=${more} />`}
    ${state.read && !state.error && state.lines.length === 0 && html`<${Empty} title="No lines"><p>Agents write them with <code>task.log.info("read", pages=3)</code>; lines of level INFO and above are shown here.</p><//>`}
    ${state.lines.length > 0 && html`<${Virtual} rows=${state.lines} height=${24} label="Log lines" follow=${open} row=${(/** @type {any} */ line) => html`<${LogLine} line=${line} where />`} />`}
  </div>`;
}
