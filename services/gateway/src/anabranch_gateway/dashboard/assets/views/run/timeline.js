// @ts-check
/** Timeline: a bar for each task, by group. */

import { counted, sharedPrefix } from "../../lib/format.js";
import { useNow } from "../../lib/hooks.js";
import { PHASES, shownName, textOfLoop, textOfWait } from "../../lib/flow.js";
import { format } from "../../lib/router.js";
import { taskId, timeline } from "../../lib/run.js";
import { appearanceOf } from "../../lib/status.js";
import { absolute, duration, ticks } from "../../lib/time.js";
import { StatusIcon } from "../../ui/icons.js";
import { Truncated, Empty } from "../../ui/components.js";
import { Virtual } from "../../ui/virtual.js";
import { html, useMemo } from "../../vendor/index.js";

const ROW = 26;

/** @param {{ id: string, view: any, open: boolean }} properties */
export function TimelineTab({ id, view, open }) {
  const now = useNow();
  const { began, span, groups } = useMemo(() => timeline(view, now), [view, open ? now : 0]);
  const rows = useMemo(() => groups.flatMap(({ group, bars }) => [{ group, bars: bars.length }, ...bars.flatMap((bar) => [bar, ...bar.children.map((/** @type {any} */ child) => ({ ...child, of: bar }))])]), [groups]);
  const tasks = groups.reduce((sum, { bars }) => sum + bars.length, 0);
  const hidden = useMemo(() => sharedPrefix(groups.flatMap(({ bars }) => bars.map((/** @type {any} */ bar) => bar.task))), [groups]);
  const marks = ticks(span, 6).filter((at) => at <= span * 0.97);
  if (!rows.length) return html`<${Empty} title="Nothing has started yet"><p>Each task gets a bar here when it starts.</p><//>`;
  return html`<div class="timeline">
    <div class="timeline-axis" aria-hidden="true"><div></div><div class="timeline-scale">${marks.map((at) => html`<span key=${at} style=${{ left: `${(100 * at) / span}%` }}>${at === 0 ? "0" : duration(at)}</span>`)}</div></div>
    <${Virtual} rows=${rows} height=${ROW} label=${`Timeline of ${counted(tasks, "task")}`} row=${(/** @type {any} */ row) => (row.task === undefined ? html`<${GroupRow} row=${row} />` : row.of ? html`<${ChildRow} row=${row} span=${span} marks=${marks} />` : html`<${TaskRow} id=${id} row=${row} began=${began} span=${span} marks=${marks} hidden=${hidden} />`)} />
    <p class="hint">The run started ${absolute(began)}. The bar of a fan-out ends with its slowest member.</p>
  </div>`;
}

/** @param {{ row: any }} properties */
const GroupRow = ({ row }) => html`<div class="timeline-group">${PHASES[row.group] ?? row.group}<span class="count">${counted(row.bars, "task")}</span></div>`;

/** What a row says besides its times. @param {any} row */
function remark(row) {
  if (row.waits?.length) return `, waits for ${textOfWait(row.waits[0])}`;
  if (row.loop) return `, ${textOfLoop(row.loop)}`;
  if (row.because) return `, ${row.because}`;
  return row.ended_by ? `, ended by ${row.ended_by}` : "";
}

/** @param {{ id: string, row: any, began: number, span: number, marks: number[], hidden: number }} properties */
function TaskRow({ id, row, began, span, marks, hidden }) {
  const appearance = appearanceOf(row.status);
  const members = row.expanded && row.members !== null ? `, ${counted(row.members, "member")}` : "";
  const times = row.at === null ? "" : `, started after ${duration(row.at)}, took ${duration(row.length)}`;
  const summary = `${appearance.label}${members}${remark(row)}${times}`;
  const failed = row.failed > 0 ? ` · ${row.failed} failed` : "";
  // A wait that has ended is told by what ended it; loops have that, too.
  const look = row.parts.length ? "is-loop" : row.ended_by && !row.loop ? "is-wait" : "";
  return html`<a class="timeline-row" href=${format(["runs", id, "graph"], { open: taskId(row) })} title=${row.at === null ? summary : `${row.path}: ${summary}\n${absolute(began + row.at)}`}>
    <span class="timeline-name"><${StatusIcon} status=${row.status} size=${14} /><${Truncated} text=${row.path === row.task ? row.task : row.path} hidden=${row.path === row.task ? hidden : 0} /><span class="unseen">${summary}</span></span>
    <${Track} row=${row} span=${span} marks=${marks} look=${look} note=${`${duration(row.length)}${failed}`} />
  </a>`;
}

/** A sub-run, below the task that started it. @param {{ row: any, span: number, marks: number[] }} properties */
function ChildRow({ row, span, marks }) {
  const name = `${shownName(row)}${row.index === null ? "" : ` [${row.index}]`}${row.iteration ? `, iteration ${row.iteration.join(".")}` : ""}`;
  return html`<a class="timeline-row is-child" href=${format(["runs", row.run_id])}>
    <span class="timeline-name"><${StatusIcon} status=${row.status} size=${14} /><span class="nowrap">sub-run ${name}</span><span class="unseen">${appearanceOf(row.status).label}</span></span>
    <${Track} row=${row} span=${span} marks=${marks} look="" note=${duration(row.length)} />
  </a>`;
}

/** @param {{ row: any, span: number, marks: number[], look: string, note: string }} properties */
function Track({ row, span, marks, look, note }) {
  const share = (/** @type {number} */ seconds) => `${(100 * seconds) / span}%`;
  const isLate = row.at !== null && (row.at + row.length) / span > 0.8;
  return html`<span class="timeline-track" aria-hidden="true">
    ${marks.map((at) => html`<span class="timeline-mark" key=${at} style=${{ left: share(at) }}></span>`)}
    ${row.at !== null && html`<span class=${`timeline-bar ${look} tone-${appearanceOf(row.status).tone}`} style=${{ left: share(row.at), width: share(row.length) }}></span>
      ${(row.parts ?? []).map((/** @type {any} */ part) => html`<span key=${part.number} class=${`timeline-part tone-${appearanceOf(part.status).tone}`} style=${{ left: share(part.at), width: share(part.length) }}></span>`)}
      <span class=${`timeline-note ${isLate ? "before" : ""}`} style=${isLate ? { right: `${100 - (100 * row.at) / span}%` } : { left: share(row.at + row.length) }}>${note}</span>`}
  </span>`;
}
