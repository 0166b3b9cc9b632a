// @ts-check
/** A long list of which only what is seen exists. All rows have one height. */

import { html, useEffect, useRef, useState } from "../vendor/index.js";

const AROUND = 12;

/**
 * @param {{ rows: any[], height: number, label: string, row: (row: any, nth: number) => any, follow?: boolean, role?: string }} properties
 *   `follow`: stays at the end as rows come, until somebody scrolls up.
 */
export function Virtual({ rows, height, label, row, follow = false }) {
  const box = useRef(/** @type {HTMLElement | null} */ (null));
  const [range, setRange] = useState([0, 60]);
  const look = () => {
    const element = box.current;
    if (!element) return;
    const first = Math.max(0, Math.floor(element.scrollTop / height) - AROUND);
    const last = Math.ceil((element.scrollTop + element.clientHeight) / height) + AROUND;
    setRange((before) => (before[0] === first && before[1] === last ? before : [first, last]));
  };
  useEffect(() => {
    const element = /** @type {HTMLElement} */ (box.current);
    const resizing = new ResizeObserver(look);
    resizing.observe(element);
    return () => resizing.disconnect();
  }, []);
  useEffect(() => {
    if (follow && box.current) box.current.scrollTop = box.current.scrollHeight;
    look();
  }, [rows.length, follow]);
  const [first, last] = [Math.min(range[0], Math.max(0, rows.length - 1)), range[1]];
  return html`<div class="virtual" ref=${box} onScroll=${look} tabindex="0" role="region" aria-label=${label}>
    <div class="virtual-all" style=${{ height: `${rows.length * height}px` }}>
      <div class="virtual-seen" style=${{ transform: `translateY(${first * height}px)` }}>
        ${rows.slice(first, last).map((each, nth) => html`<div class="virtual-row" key=${first + nth} style=${{ height: `${height}px` }}>${row(each, first + nth)}</div>`)}
      </div>
    </div>
  </div>`;
}
