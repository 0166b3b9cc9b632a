// @ts-check
/** Timeline: a bar for each task, by group. */

import { counted, sharedPrefix } from "../../lib/format.js";
import { useNow } from "../../lib/hooks.js";
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
  const rows = useMemo(() => groups.flatMap(({ group, bars }) => [{ group, bars: bars.length }, ...bars]), [groups]);
  const hidden = useMemo(() => sharedPrefix(groups.flatMap(({ bars }) => bars.map((/** @type {any} */ bar) => bar.task))), [groups]);
  const marks = ticks(span, 6).filter((at) => at <= span * 0.97);
  if (!rows.length) return html`<${Empty} title="Nothing has started yet"><p>Each task gets a bar here when it starts.</p><//>`;
  return html`<div class="timeline">
    <div class="timeline-axis" aria-hidden="true"><div></div><div class="timeline-scale">${marks.map((at) => html`<span key=${at} style=${{ left: `${(100 * at) / span}%` }}>${at === 0 ? "0" : duration(at)}</span>`)}</div></div>
    <${Virtual} rows=${rows} height=${ROW} label=${`Timeline of ${counted(rows.length - groups.length, "task")}`} row=${(/** @type {any} */ row) => (row.task === undefined ? html`<${GroupRow} row=${row} />` : html`<${TaskRow} id=${id} row=${row} began=${began} span=${span} marks=${marks} hidden=${hidden} />`)} />
    <p class="hint">The run started ${absolute(began)}. The bar of a fan-out ends with its slowest member.</p>
  </div>`;
}

/** @param {{ row: any }} properties */
const GroupRow = ({ row }) => html`<div class="timeline-group">${row.group}<span class="count">${counted(row.bars, "task")}</span></div>`;

/** @param {{ id: string, row: any, began: number, span: number, marks: number[], hidden: number }} properties */
function TaskRow({ id, row, began, span, marks, hidden }) {
  const appearance = appearanceOf(row.status);
  const members = row.expanded && row.members !== null ? `, ${counted(row.members, "member")}` : "";
  const summary = row.at === null ? appearance.label : `${appearance.label}${members}, started after ${duration(row.at)}, took ${duration(row.length)}`;
  return html`<a class="timeline-row" href=${format(["runs", id, "graph"], { open: taskId(row) })} title=${row.at === null ? summary : `${row.task}: ${summary}\n${absolute(began + row.at)}`}>
    <span class="timeline-name"><${StatusIcon} status=${row.status} size=${14} /><${Truncated} text=${row.task} hidden=${hidden} /><span class="unseen">${summary}</span></span>
    <span class="timeline-track" aria-hidden="true">
      ${marks.map((at) => html`<span class="timeline-mark" key=${at} style=${{ left: `${(100 * at) / span}%` }}></span>`)}
      ${row.at !== null && html`<span class=${`timeline-bar tone-${appearance.tone}`} style=${{ left: `${(100 * row.at) / span}%`, width: `${(100 * row.length) / span}%` }}></span>
        <span class=${`timeline-note ${(row.at + row.length) / span > 0.8 ? "before" : ""}`} style=${(row.at + row.length) / span > 0.8 ? { right: `${100 - (100 * row.at) / span}%` } : { left: `${(100 * (row.at + row.length)) / span}%` }}>${duration(row.length)}${row.failed > 0 ? ` · ${row.failed} failed` : ""}</span>`}
    </span>
  </a>`;
}
