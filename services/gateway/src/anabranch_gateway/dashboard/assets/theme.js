/* Before anything is painted: the theme that was chosen, else what the system has. */
(function () {
  var chosen = null;
  try {
    chosen = localStorage.getItem("anabranch.theme");
  } catch (error) {
    // A browser that keeps nothing follows the system.
  }
  var dark = chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  document.documentElement.dataset.theme = dark ? "dark" : "light";
})();
