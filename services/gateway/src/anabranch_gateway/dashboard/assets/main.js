// @ts-check
/** Builds the dashboard's state and renders it. */

import { Api } from "./lib/api.js";
import { observable } from "./lib/observable.js";
import { storedKey, storedTheme } from "./lib/session.js";
import { html, render } from "./vendor/index.js";
import { Shell } from "./views/shell.js";

const key = storedKey();
const signIn = observable(/** @type {"no" | "wanted" | "refused"} */ ("no"));
const state = {
  api: new Api({
    key: key.get,
    onUnauthorized: () => signIn.set(key.get() === null ? "wanted" : "refused"),
  }),
  key,
  signIn,
  theme: storedTheme(),
  live: observable("off"),
  submitted: observable(null),
  caller: observable(null),
  toast: observable(null),
  question: observable(null),
};

render(html`<${Shell} state=${state} />`, /** @type {HTMLElement} */ (document.getElementById("app")));
