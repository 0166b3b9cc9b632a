// @ts-check
/** Lists the keyboard shortcuts. */

import { html } from "../vendor/index.js";
import { Dialog } from "../ui/dialog.js";

const SHORTCUTS = /** @type {[string, [string, string][]][]} */ ([
  ["Everywhere", [["g r", "Runs"], ["g s", "Submit"], ["g a", "Approvals"], ["g d", "Dead letters"], ["g w", "Workers"], ["g y", "System"], ["/", "Search"], ["t", "Switch between dark and light"], ["?", "Show this list"], ["Esc", "Close the dialog"]]],
  ["Runs", [["j  k", "Next, previous run"], ["Enter", "Open the run"]]],
  ["A run", [["1 … 8", "Open a tab"], ["p", "Pause or resume"], ["c", "Cancel"], ["e", "Retry failed tasks"]]],
  ["Graph (while focused)", [["← → ↑ ↓", "Move along the dependencies"], ["Shift + arrows", "Pan"], ["+  −", "Zoom"], ["0", "Show the whole graph"], ["Enter", "Open the task"]]],
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
