// @ts-check
/** Lists the keyboard shortcuts. */

import { html } from "../vendor/index.js";
import { Dialog } from "../ui/dialog.js";

const SHORTCUTS = /** @type {[string, [string, string][]][]} */ ([
  ["Everywhere", [["g r", "Runs"], ["g s", "Submit"], ["g d", "Dead letters"], ["g y", "System"], ["/", "Search"], ["t", "Dark or light"], ["?", "This list"], ["Esc", "Close what is open"]]],
  ["Runs", [["j  k", "Next, previous run"], ["Enter", "Open it"]]],
  ["A run", [["1 … 8", "Its tabs"], ["p", "Pause or resume"], ["c", "Cancel"], ["e", "Retry what failed"]]],
  ["Graph (with the focus on it)", [["← → ↑ ↓", "Walk along the dependencies"], ["Shift + arrows", "Pan"], ["+  −", "Zoom"], ["0", "See all of it"], ["Enter", "Open the task"]]],
  ["Submit", [["Ctrl + Enter", "Preview the plan"]]],
]);

/** @param {{ onClose: () => void }} properties */
export function Help({ onClose }) {
  return html`<${Dialog} title="Keyboard shortcuts" onClose=${onClose}>
    <div class="shortcuts">${SHORTCUTS.map(([title, keys]) => html`<section><h3>${title}</h3><dl>
      ${keys.map(([key, text]) => html`<div><dt>${key.split("  ").map((each) => html`<kbd>${each}</kbd>`)}</dt><dd>${text}</dd></div>`)}
    </dl></section>`)}</div>
  <//>`;
}
