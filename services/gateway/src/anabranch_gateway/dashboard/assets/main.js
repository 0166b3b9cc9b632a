// @ts-check
/** Puts the dashboard together, and starts it. */

import { Api } from "./lib/api.js";
import { cell } from "./lib/cells.js";
import { keptKey, keptTheme } from "./lib/session.js";
import { html, render } from "./vendor/index.js";
import { Shell } from "./views/shell.js";

const key = keptKey();
const signIn = cell(/** @type {"no" | "wanted" | "refused"} */ ("no"));
const parts = {
  api: new Api({
    key: key.get,
    onUnauthorized: () => signIn.set(key.get() === null ? "wanted" : "refused"),
  }),
  key,
  signIn,
  theme: keptTheme(),
  live: cell("off"),
  submitted: cell(null),
  who: cell(null),
  toast: cell(null),
  question: cell(null),
};

render(html`<${Shell} parts=${parts} />`, /** @type {HTMLElement} */ (document.getElementById("app")));
