// @ts-check
/** The lines that the run's agents wrote with `task.log`, live. */

import { pathOf } from "../../lib/api.js";
import { counted, integer } from "../../lib/format.js";
import { useApp, useEvery } from "../../lib/hooks.js";
import { taskId, taskRows } from "../../lib/run.js";
import { Choice, Empty, Failure } from "../../ui/components.js";
import { LogLine } from "../../ui/loglines.js";
import { Virtual } from "../../ui/virtual.js";
import { html, useEffect, useRef, useState } from "../../vendor/index.js";

const MAX_LINES = 5000;
const PAGE = 1000;
const LEVELS = [{ value: "", label: "All" }, { value: "warning", label: "Warnings" }, { value: "error", label: "Errors" }];

const EMPTY = { lines: /** @type {any[]} */ ([]), left: 0, error: /** @type {any} */ (null), read: false };

/**
 * Appends lines and keeps the last MAX_LINES; `left` counts the omitted ones. Pure.
 * @param {{ lines: any[], left: number }} before
 * @param {any[]} more
 */
export function withLines(before, more) {
  const all = more.length ? [...before.lines, ...more] : before.lines;
  return { lines: all.length > MAX_LINES ? all.slice(-MAX_LINES) : all, left: before.left + Math.max(0, all.length - MAX_LINES) };
}

/** @param {{ lines: any[], left: number }} state */
export const linesSummary = ({ lines, left }) =>
  left > 0 ? `the last ${integer(lines.length)} of ${integer(lines.length + left)} lines; ${integer(left)} older ones are omitted: see anabranch logs` : counted(lines.length, "line");

/** @param {{ id: string, view: any, open: boolean }} properties */
export function LogsTab({ id, view, open }) {
  const { api } = useApp();
  const [level, setLevel] = useState("");
  const [task, setTask] = useState("");
  const [state, setState] = useState(/** @type {{ lines: any[], left: number, error: any, read: boolean }} */ (EMPTY));
  const position = useRef(/** @type {{ after: string | null, key: string }} */ ({ after: null, key: "" }));
  const rows = taskRows(view);
  const key = `${id} ${level} ${task}`;
  const more = async () => {
    const selected = rows.find((row) => taskId(row) === task);
    try {
      for (;;) {
        const page = await api.get(`v1/runs/${pathOf(id)}/logs`, { level, group: selected?.group, task: selected?.task, after: position.current.after, limit: PAGE });
        if (position.current.key !== key) return;
        position.current.after = page.next_after ?? position.current.after;
        setState((before) => ({ ...withLines(before, page.logs), error: null, read: true }));
        if (page.logs.length < PAGE) return;
      }
    } catch (error) {
      if (position.current.key === key) setState((before) => ({ ...before, error, read: true }));
    }
  };
  useEffect(() => {
    position.current = { after: null, key };
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
      <span class="muted" role="status">${state.read ? linesSummary(state) : "Reading"}</span>
    </div>
    ${state.error && html`<${Failure} error=${state.error} onRetry=${more} />`}
    ${state.read && !state.error && state.lines.length === 0 && html`<${Empty} title="No lines"><p>Agents write them with <code>task.log.info("read", pages=3)</code>; lines of level INFO and above are shown here.</p><//>`}
    ${state.lines.length > 0 && html`<${Virtual} rows=${state.lines} height=${24} label="Log lines" follow=${open} row=${(/** @type {any} */ line) => html`<${LogLine} line=${line} where />`} />`}
  </div>`;
}
