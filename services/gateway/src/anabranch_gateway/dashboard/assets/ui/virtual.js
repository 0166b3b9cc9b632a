// @ts-check
/** A virtual list: only the visible rows are rendered. All rows have the same height. */

import { html, useEffect, useRef, useState } from "../vendor/index.js";

/** Rows rendered above and below the visible ones, so that scrolling shows no gap. */
const OVERSCAN_ROWS = 12;

/**
 * @param {{ rows: any[], height: number, label: string, row: (row: any, nth: number) => any, follow?: boolean, role?: string }} properties
 *   `follow`: scrolls to the end when rows are added.
 */
export function Virtual({ rows, height, label, row, follow = false }) {
  const box = useRef(/** @type {HTMLElement | null} */ (null));
  const [range, setRange] = useState([0, 60]);
  const updateRange = () => {
    const element = box.current;
    if (!element) return;
    const first = Math.max(0, Math.floor(element.scrollTop / height) - OVERSCAN_ROWS);
    const last = Math.ceil((element.scrollTop + element.clientHeight) / height) + OVERSCAN_ROWS;
    setRange((before) => (before[0] === first && before[1] === last ? before : [first, last]));
  };
  useEffect(() => {
    const element = /** @type {HTMLElement} */ (box.current);
    const resizing = new ResizeObserver(updateRange);
    resizing.observe(element);
    return () => resizing.disconnect();
  }, []);
  useEffect(() => {
    if (follow && box.current) box.current.scrollTop = box.current.scrollHeight;
    updateRange();
  }, [rows.length, follow]);
  const [first, last] = [Math.min(range[0], Math.max(0, rows.length - 1)), range[1]];
  return html`<div class="virtual" ref=${box} onScroll=${updateRange} tabindex="0" role="region" aria-label=${label}>
    <div class="virtual-all" style=${{ height: `${rows.length * height}px` }}>
      <div class="virtual-seen" style=${{ transform: `translateY(${first * height}px)` }}>
        ${rows.slice(first, last).map((each, nth) => html`<div class="virtual-row" key=${first + nth} style=${{ height: `${height}px` }}>${row(each, first + nth)}</div>`)}
      </div>
    </div>
  </div>`;
}
