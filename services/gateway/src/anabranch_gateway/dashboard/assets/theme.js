/* Sets the theme before the first paint: the user's choice, else that of the system. Not a module, because modules run
   after the first paint. */
(function () {
  var chosen = null;
  try {
    chosen = localStorage.getItem("anabranch.theme");
  } catch (error) {
    // Without storage the theme follows the system.
  }
  var dark = chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  document.documentElement.dataset.theme = dark ? "dark" : "light";
})();
