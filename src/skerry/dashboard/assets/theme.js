// Light or dark: as the system has it, until somebody chooses.
(function () {
  const root = document.documentElement;
  const set = (theme) => (theme ? (root.dataset.theme = theme) : delete root.dataset.theme);
  set(localStorage.getItem("skerry-theme"));
  document.addEventListener("click", (event) => {
    if (!event.target.closest?.("[data-switch-theme]")) return;
    const dark = root.dataset.theme
      ? root.dataset.theme === "dark"
      : matchMedia("(prefers-color-scheme: dark)").matches;
    const theme = dark ? "light" : "dark";
    localStorage.setItem("skerry-theme", theme);
    set(theme);
  });
})();
// On a phone the navigation is one line that scrolls: where one is, is in sight.
(function look(left) {
  const here = document.querySelector('nav a[aria-current="page"]');
  if (here) here.closest("nav").scrollLeft = here.offsetLeft - 40;
  else if (left > 0) setTimeout(look, 50, left - 1);
})(100);
